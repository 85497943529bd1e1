"""Which node this is: the addresses of this machine, and waiting for the Node."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

from pyproxy.errors import StartError
from pyproxy.kube.machines import Node
from pyproxy.kube.store import Store

logger = logging.getLogger(__name__)

LINK_LOCAL = 0x20  # scope in /proc/net/if_inet6
_V4, _V6 = Path("/proc/net/fib_trie"), Path("/proc/net/if_inet6")


class Arrival:
    """A handler that wakes whoever waits for the own Node."""

    def __init__(self) -> None:
        self._came = asyncio.Event()

    def on_upsert(self, key: str, old: Node | None, new: Node) -> None:
        """It is there, or has changed."""
        self._came.set()

    def on_delete(self, key: str, last: Node) -> None:
        """It is gone; nothing to be done here."""

    def on_synced(self) -> None:
        """All that there is has been seen."""

    async def of(self, name: str, nodes: Store[Node], timeout_s: float) -> None:
        """Return when the Node has an address. Raise StartError if it never is there.

        A Node without an address is taken as it is when the time is over.
        """
        try:
            async with asyncio.timeout(timeout_s or None):
                while not has_addresses(nodes.get(name)):
                    await self._came.wait()
                    self._came.clear()
        except TimeoutError:
            if nodes.get(name) is None:
                hint = "is its name right (--hostname-override)?"
                failed = f"no Node {name!r} after {timeout_s:g} s"
                raise StartError(failed, hint) from None
            logger.warning("the Node has no address, going on", extra={"node": name})


def has_addresses(node: Node | None) -> bool:
    """Whether the Node says how it is reached, other than by name."""
    return node is not None and any(
        each.type in ("InternalIP", "ExternalIP") and _is_ip(each.address)
        for each in node.status.addresses
    )


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def local_addresses() -> tuple[str, ...]:
    """Return every address of this machine, less those of a link alone."""
    return tuple(sorted({*_local_v4(), *_local_v6()}))


def _local_v4() -> Iterator[str]:
    """Yield what the kernel's table of routes calls local hosts."""
    last = ""
    for line in _lines(_V4):
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            yield last


def _local_v6() -> Iterator[str]:
    for line in _lines(_V6):
        digits, _, _, scope, *_ = line.split()
        if int(scope, 16) != LINK_LOCAL:
            yield socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []  # a kernel without that family
