"""The admin address: bound at once, answered when there is time for it.

Its HTTP server is a library that takes longer to import than all else of a balancer to
start. Clients that come before it wait in the backlog of the socket.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyproxy.admin.sources import Sources
from pyproxy.config import is_loopback, parse_address
from pyproxy.errors import StartError
from pyproxy.model import format_address

if TYPE_CHECKING:
    from pyproxy.admin.server import Server

logger = logging.getLogger(__name__)

BACKLOG = 128
_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


Listen = Callable[[str, int], Sequence[socket.socket]]  # raises OSError


def _create(host: str, port: int) -> list[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return [socket.create_server((host, port), family=family, backlog=BACKLOG)]


class Admin:
    """An admin address; owns its sockets and what answers on them."""

    def __init__(self, sources: Sources, listen: Listen = _create) -> None:
        self._sources = sources
        self._listen = listen
        self._sockets: list[socket.socket] = []
        self._server: Server | None = None
        self._local_only = True

    async def open(self, address: str) -> str:
        """Listen on `HOST:PORT`, answer, and return where. Raise StartError."""
        where = await self.bind(address)
        await self.serve()
        return where

    async def bind(self, address: str) -> str:
        """Listen on `HOST:PORT` and return where. Raise StartError if it cannot be."""
        host, port = parse_address(address, zero_port=True)
        self._local_only = is_loopback(host)
        if not self._local_only:
            logger.warning(
                "admin address is open to the network, without authentication",
                extra={"address": address},
            )
        try:
            self._sockets = await _listen(host, port, self._listen)
        except OSError as error:
            raise StartError(*_explain(address, error)) from error
        bound = self._sockets[0].getsockname()
        where = format_address(bound[0], bound[1])
        logger.info("admin address open", extra={"url": f"http://{where}/"})
        return where

    async def serve(self) -> None:
        """Begin to answer; does nothing if nothing was bound."""
        if not self._sockets:
            return
        # Imported in a thread: probes and signals do not wait for it.
        server = await asyncio.to_thread(_make_server, self._sources, self._local_only)
        sockets, self._sockets, self._server = self._sockets, [], server
        await server.open(sockets)

    async def close(self) -> None:
        """Stop listening. May be called twice."""
        for each in self._sockets:
            each.close()
        self._sockets = []
        if self._server is not None:
            server, self._server = self._server, None
            await server.close()


def _make_server(sources: Sources, local_only: bool) -> "Server":
    from pyproxy.admin.server import Server

    return Server(sources, local_only=local_only)


async def _listen(host: str, port: int, create: Listen) -> list[socket.socket]:
    """Return a socket for each address of the host that this machine has."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    opened: list[socket.socket] = []
    for _, _, _, _, address in dict.fromkeys(found):
        try:
            opened += create(str(address[0]), int(address[1]))
        except OSError as error:
            if error.errno in _NO_SUCH_FAMILY and len(found) > 1:
                continue
            for each in opened:
                each.close()
            raise
    if not opened:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for each in opened:
        each.setblocking(False)
    return opened


def _explain(address: str, error: OSError) -> tuple[str, str]:
    hint = ""
    if error.errno == errno.EADDRINUSE:
        hint = "choose another with --admin-address, or switch it off with an empty one"
    number = error.errno or 0  # of a name that does not resolve, below 0
    why = os.strerror(number).lower() if number > 0 else error.strerror or str(error)
    return f"cannot open the admin address {address}: {why}", hint
