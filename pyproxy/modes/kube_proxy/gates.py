"""Opens what load balancers ask at, when its HTTP server is imported; see `doors`."""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pyproxy.config import parse_address
from pyproxy.errors import StartError
from pyproxy.model import format_address
from pyproxy.modes.kube_proxy.health import ProxyHealth
from pyproxy.modes.kube_proxy.metrics import KubeProxyCounters
from pyproxy.modes.kube_proxy.parts import HealthPort

if TYPE_CHECKING:
    from pyproxy.modes.kube_proxy.doors import HealthDoor, HealthPorts

logger = logging.getLogger(__name__)

RETRY_S = 5.0  # upstream's, for its own addresses
AGAIN_S = 30.0  # for health ports of Services that are taken

Listen = Callable[[str, int], Sequence[socket.socket]]  # raises OSError


class Gates:
    """/healthz and /livez, and the health ports of Services."""

    def __init__(
        self,
        listen: Listen,
        health: ProxyHealth,
        counters: KubeProxyCounters,
        on_taken: Callable[[str, str], None],
    ) -> None:
        """`on_taken` learns of Services whose health port cannot be opened."""
        self._listen, self._health, self._counters = listen, health, counters
        self._on_taken = on_taken
        self._hosts: tuple[str, ...] = ()
        self._news = asyncio.Event()
        self._waiting: dict[str, HealthPort | None] = {}  # until there are doors
        self._door: HealthDoor | None = None
        self._ports: HealthPorts | None = None
        self._retry: asyncio.Task[None] | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        """Addresses of health ports of Services."""
        return self._hosts

    @hosts.setter
    def hosts(self, hosts: tuple[str, ...]) -> None:
        self._hosts = hosts
        self._news.set()

    def want(self, changes: Mapping[str, HealthPort | None]) -> None:
        """Take what changed in the health ports of Services."""
        if changes:
            self._waiting.update(changes)
            self._news.set()

    async def open(self, address: str, is_needed: bool) -> str:
        """Answer /healthz and /livez at `HOST:PORT`, and return where; "" = nowhere.

        Raises:
            StartError: it is taken, and `is_needed`; else it is tried again.
        """
        # Imported in a thread: signals do not wait for it.
        door, ports = await asyncio.to_thread(_import_doors)
        self._door = door(self._health, self._counters.note_answer)
        self._ports = ports(self._is_live, self._listen, self._on_taken)
        await self._door.start()
        await self._ports.start()
        if not address:
            return ""
        try:
            return await self._serve(address)
        except OSError as error:
            failed = f"cannot open /healthz at {address}: {error.strerror or error}"
            if is_needed:
                raise StartError(failed) from error
            logger.error("health not answered, trying again", extra={"why": failed})
        self._retry = asyncio.create_task(self._try_again(address), name="healthz")
        return address

    def _is_live(self) -> bool:
        return self._health.is_live

    async def _serve(self, address: str) -> str:
        """Raise OSError."""
        assert self._door is not None
        sockets = self._listen(*parse_address(address, zero_port=True))
        await self._door.serve(sockets)
        bound = sockets[0].getsockname()
        return format_address(bound[0], bound[1])

    async def _try_again(self, address: str) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                where = await self._serve(address)
            except OSError:
                continue
            logger.info("health answered", extra={"address": where})
            return

    async def follow(self) -> None:
        """Open and close health ports as Services and addresses change, once."""
        try:
            await asyncio.wait_for(self._news.wait(), AGAIN_S)
        except TimeoutError:
            pass  # some may have been taken, and be free by now
        self._news.clear()
        if self._ports is not None:
            changes, self._waiting = self._waiting, {}
            self._ports.want(changes)
            await self._ports.follow(self._hosts)

    async def close(self) -> None:
        """Stop. May be called twice."""
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.gather(self._retry, return_exceptions=True)
            self._retry = None
        for each in (self._door, self._ports):
            if each is not None:
                await each.close()
        self._door = self._ports = None


def _import_doors() -> "tuple[type[HealthDoor], type[HealthPorts]]":
    from pyproxy.modes.kube_proxy.doors import HealthDoor, HealthPorts

    return HealthDoor, HealthPorts
