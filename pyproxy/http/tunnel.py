"""A way through an HTTP or SOCKS proxy, for a core that only knows how to dial.

Each tunnel is a unix socket of our own: a connection to it becomes a connection through
the proxy to one address, and bytes are passed on as they are. TLS goes from the core to
the apiserver, so the proxy reads nothing, and upgrades work as everything else does.
"""

import asyncio
import contextlib
import logging
import os
import tempfile

from pyproxy.proxyurl import Direct, ProxyError, ProxyUrl, Streams

logger = logging.getLogger(__name__)

CHUNK = 65536
CLIENT_HELLO = b"\x16"  # its first byte; plain HTTP would take `why` for a response


class Tunnel:
    """A unix socket that leads to `host:port` through a proxy."""

    def __init__(self, proxy_url: str, host: str, port: int) -> None:
        """`proxy_url` was checked; it may hold a user and a password. Empty = none."""
        self._proxy = ProxyUrl(proxy_url) if proxy_url else Direct()
        self._to = (host, port)
        self._server: asyncio.Server | None = None
        self._place = ""
        self._live: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Listen, and return the path of the socket."""
        self._place = tempfile.mkdtemp(prefix="pyproxy-")  # mode 0700
        socket = os.path.join(self._place, "tunnel")
        self._server = await asyncio.start_unix_server(self._accept, socket)
        return socket

    async def close(self) -> None:
        """Stop listening and end what lives. May be called twice."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._live:
            task.cancel()
        await asyncio.gather(*self._live, return_exceptions=True)
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._place, "tunnel"))
        with contextlib.suppress(OSError):
            os.rmdir(self._place)

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.create_task(self._serve((reader, writer)))
        self._live.add(task)
        task.add_done_callback(self._live.discard)

    async def _serve(self, near: Streams) -> None:
        try:
            far = await self._proxy.open_streams(*self._to)
        except ProxyError as error:
            extra = {"proxy": self._proxy.shown, "why": str(error)}
            logger.warning("no way through the proxy", extra=extra)
            await _refuse(near, str(error))
            return
        except asyncio.CancelledError:
            near[1].transport.abort()
            raise
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(near[0], far[1]))
                both.create_task(_pass_on(far[0], near[1]))
        except* OSError:
            near[1].transport.abort()  # pass the reset on: an end of the stream would
            far[1].transport.abort()  # look as if all had come
        finally:
            near[1].close()
            far[1].close()


async def _refuse(near: Streams, why: str) -> None:
    """Write a plain-text reason instead of a ServerHello; the core shows it."""
    try:
        with contextlib.suppress(OSError):
            if await near[0].read(1) == CLIENT_HELLO:
                near[1].write(why.encode("ascii", "replace"))
    finally:
        near[1].close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()  # TLS to the proxy knows no half-close
