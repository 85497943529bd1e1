"""Where load balancers ask: /healthz and /livez, and a health port of each Service.

Imported in a thread, late: its HTTP server is a library that takes long to import.
Clients of all ports together are bounded, in number and in the time that they may rest.
"""

import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

from aiohttp import web

from pyproxy.admin.server import Clients
from pyproxy.modes.kube_proxy.health import Answer, ProxyHealth, service_answer
from pyproxy.modes.kube_proxy.parts import HealthPort

logger = logging.getLogger(__name__)

NOSNIFF = {"X-Content-Type-Options": "nosniff"}
CLOSE_S = 0.5  # for answers under way

OnFailed = Callable[[str, str], None]  # key of a Service, why
Listen = Callable[[str, int], Sequence[socket.socket]]  # raises OSError


class Door:
    """One HTTP server on any number of sockets; base of the two below."""

    def __init__(self) -> None:
        self._clients = Clients(self._handle)
        self._runner = web.ServerRunner(self._clients, shutdown_timeout=CLOSE_S)

    async def start(self) -> None:
        """Be able to serve."""
        await self._runner.setup()

    async def serve(self, sockets: Iterable[socket.socket]) -> list[web.SockSite]:
        """Answer on sockets, which are owned from here on."""
        sites = [web.SockSite(self._runner, each) for each in sockets]
        for site in sites:
            await site.start()
        return sites

    async def close(self) -> None:
        """Stop. May be called twice."""
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._clients.wait_for(request.protocol)
        answer = self.answer(request)
        headers = {**NOSNIFF, **dict(answer.headers)}
        return web.Response(
            status=answer.status,
            text=answer.body,
            content_type="application/json",
            headers=headers,
        )

    def answer(self, request: web.BaseRequest) -> Answer:
        """Return what to say."""
        raise NotImplementedError


class HealthDoor(Door):
    """/healthz and /livez of this program; counts what it said."""

    def __init__(self, health: ProxyHealth, note: Callable[[str, int], None]) -> None:
        """`note` is told of each answer: "healthz" or "livez", and its status."""
        super().__init__()
        self._health, self._note = health, note

    def answer(self, request: web.BaseRequest) -> Answer:
        """Return what to say."""
        asked = {"/healthz": self._health.healthz, "/livez": self._health.livez}
        if request.path not in asked:
            return Answer(404, '{"message": "/healthz and /livez are here"}')
        answer = asked[request.path]()
        self._note(request.path[1:], answer.status)
        return answer


class HealthPorts(Door):
    """The health ports of Services: each on every address of the node ports."""

    def __init__(
        self, is_live: Callable[[], bool], listen: Listen, on_failed: OnFailed
    ) -> None:
        """`is_live`: of this program; `on_failed` learns of ports that are taken."""
        super().__init__()
        self._is_live, self._listen, self._on_failed = is_live, listen, on_failed
        self._hosts: tuple[str, ...] = ()
        self._wanted: dict[str, HealthPort] = {}
        self._open: dict[int, tuple[str, list[web.SockSite]]] = {}  # by port
        self._said: set[str] = set()  # keys of Services whose port is taken

    @property
    def ports(self) -> Mapping[int, str]:
        """Ports that are open now, with the Services that they are about."""
        return {port: key for port, (key, _) in self._open.items()}

    def want(self, changes: Mapping[str, HealthPort | None]) -> None:
        """Take what changed; `follow` opens and closes."""
        for key, each in changes.items():
            if each is None:
                self._wanted.pop(key, None)
            else:
                self._wanted[key] = each

    async def follow(self, hosts: tuple[str, ...]) -> None:
        """Make what is open what is wanted, at these addresses."""
        moved, self._hosts = hosts != self._hosts, hosts
        ports = {each.port: key for key, each in self._wanted.items()}
        for port, (key, sites) in list(self._open.items()):
            has_it = self._wanted.get(key)
            if moved or has_it is None or has_it.port != port:
                del self._open[port]
                for site in sites:
                    await site.stop()
        self._said &= self._wanted.keys()
        for port, key in ports.items():
            if port not in self._open:
                await self._try(port, key)

    async def _try(self, port: int, key: str) -> None:
        opened: list[socket.socket] = []
        try:
            for host in self._hosts:
                opened += self._listen(host, port)
        except OSError as error:
            for each in opened:
                each.close()
            if key not in self._said:  # once; it is tried again in silence
                self._said.add(key)
                self._on_failed(key, f"port {port}: {error.strerror or error}")
            return
        self._said.discard(key)
        self._open[port] = key, await self.serve(opened)

    def answer(self, request: web.BaseRequest) -> Answer:
        """Return what to say about the Service of the port that was asked."""
        transport = request.transport
        name = transport.get_extra_info("sockname") if transport is not None else None
        key, _ = self._open.get(name[1] if name else 0, ("", []))
        found = self._wanted.get(key)
        if found is None:  # closed since this client came
            return Answer(503, "{}", (("Connection", "close"),))
        return service_answer(key, found.endpoints, proxy_is_live=self._is_live())


def listen(host: str, port: int) -> list[socket.socket]:
    """Return a socket that listens there. Raise OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.create_server((host, port), family=family)
    made.setblocking(False)
    return [made]
