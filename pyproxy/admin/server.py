"""The HTTP side of the admin address: a few GETs, nothing that changes anything."""

import asyncio
import base64
import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib import resources
from socket import socket

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from pyproxy.admin.health import report
from pyproxy.admin.host import is_local_host
from pyproxy.admin.sources import Sources
from pyproxy.metrics import new_registry

MOST_CLIENTS = 256
# In which a client must have sent a whole head: its first, and each one after the last.
# Its answer must be on its way within that time, too.
PATIENCE_S = 30.0

logger = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], web.Response]
_INLINE = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)


class Clients(web.Server):
    """Connections of one server, bounded in number and in the time that they may rest.

    The library waits for a first head without end. Where there is no room for another
    connection, the one goes whose last request is the longest ago.
    """

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> None:
        super().__init__(
            handler,
            access_log=None,
            keepalive_timeout=PATIENCE_S,
            lingering_time=0,
            logger=logger,
        )
        self._patience: OrderedDict[RequestHandler, asyncio.TimerHandle] = OrderedDict()
        self._transports: dict[RequestHandler, asyncio.Transport] = {}

    def connection_made(
        self, handler: RequestHandler, transport: asyncio.Transport
    ) -> None:
        """Take a client, if need be in place of another."""
        super().connection_made(handler, transport)
        if len(self._transports) >= MOST_CLIENTS:
            self._end(next(iter(self._patience)))
        self._transports[handler] = transport
        self.wait_for(handler)

    def connection_lost(
        self, handler: RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget a client."""
        self._forget(handler)
        super().connection_lost(handler, exc)

    def wait_for(self, handler: RequestHandler) -> None:
        """Let a client rest anew: it came, or it has asked something."""
        if handler not in self._transports:
            return
        if (running := self._patience.pop(handler, None)) is not None:
            running.cancel()
        loop = asyncio.get_running_loop()
        self._patience[handler] = loop.call_later(PATIENCE_S, self._end, handler)

    def _end(self, handler: RequestHandler) -> None:
        transport = self._forget(handler)
        if transport is not None:
            transport.abort()  # closing would wait for a client that does not read

    def _forget(self, handler: RequestHandler) -> asyncio.Transport | None:
        if (running := self._patience.pop(handler, None)) is not None:
            running.cancel()
        return self._transports.pop(handler, None)


class Server:
    """Answers on sockets that are bound already."""

    def __init__(self, sources: Sources, *, local_only: bool) -> None:
        """`local_only`: requests whose Host is another machine are refused."""
        self._sources = sources
        self._local_only = local_only
        self._page, self._policy = _load_page()
        self._clients: Clients | None = None
        self._runner: web.ServerRunner | None = None
        self._routes: dict[str, Handler] = {
            "/": self._live_page,
            "/healthz": _alive,
            "/livez": _alive,
            "/readyz": self._ready,
            "/metrics": self._metrics,
            "/debug/table": self._table,
            "/debug/config": self._config,
            "/debug/events": self._events,
        }

    async def open(self, sockets: Iterable[socket]) -> None:
        """Begin; the sockets are owned from here on."""
        self._clients = Clients(self._handle)
        self._runner = web.ServerRunner(self._clients, shutdown_timeout=0.5)
        await self._runner.setup()
        for each in sockets:
            await web.SockSite(self._runner, each).start()

    async def close(self) -> None:
        """Stop. May be called twice."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._clients is not None
        self._clients.wait_for(request.protocol)
        response = self._respond(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Server"] = "pyproxy"
        response.headers["Cache-Control"] = "no-store"
        return response

    def _respond(self, request: web.BaseRequest) -> web.Response:
        if not request.raw_path.startswith("/"):
            # A whole URL names a host of its own, beside that of the header.
            return web.Response(status=400, text="only paths are asked for here\n")
        hosts = request.headers.getall("Host", [])
        if self._local_only and not (len(hosts) == 1 and is_local_host(hosts[0])):
            text = "this address answers to local names only\n"
            return web.Response(status=403, text=text)
        handler = self._routes.get(request.path)
        if handler is None and request.path in self._sources.more:
            handler = self._more
        if handler is None:
            return web.Response(status=404, text="404: Not Found")
        if request.method not in ("GET", "HEAD"):
            headers = {"Allow": "GET,HEAD"}
            text = "405: Method Not Allowed"
            return web.Response(status=405, text=text, headers=headers)
        return handler(request)

    def _live_page(self, request: web.BaseRequest) -> web.Response:
        headers = {"Content-Security-Policy": self._policy}
        return web.Response(body=self._page, content_type="text/html", headers=headers)

    def _ready(self, request: web.BaseRequest) -> web.Response:
        health = self._sources.health
        return _answer(request, health.complaints(), health.notes())

    def _metrics(self, request: web.BaseRequest) -> web.Response:
        body = generate_latest(new_registry(self._sources.collectors))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _table(self, request: web.BaseRequest) -> web.Response:
        sources = self._sources
        more = {"ready": sources.health.ready, **sources.history.facts()}
        return web.json_response({**sources.table(), **more})

    def _events(self, request: web.BaseRequest) -> web.Response:
        events = self._sources.history.events.newest_first()
        return web.json_response({"events": events})

    def _more(self, request: web.BaseRequest) -> web.Response:
        page = self._sources.more[request.path](dict(request.query))
        if isinstance(page.body, str):
            return web.Response(status=page.status, text=page.body)
        return web.json_response(page.body, status=page.status)

    def _config(self, request: web.BaseRequest) -> web.Response:
        return web.json_response(self._sources.config())


def _is_a_fault_of_ours(record: logging.LogRecord) -> bool:
    """Whether a line is worth it: the library has a traceback for each bad request."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


logger.addFilter(_is_a_fault_of_ours)


def _alive(request: web.BaseRequest) -> web.Response:
    return _answer(request, [("ping", None)])


def _answer(
    request: web.BaseRequest,
    checks: list[tuple[str, str | None]],
    notes: Sequence[tuple[str, str]] = (),
) -> web.Response:
    name = request.path.strip("/")
    well, text = report(name, checks, notes, verbose="verbose" in request.query)
    return web.Response(status=200 if well else 503, text=text)


def _load_page() -> tuple[bytes, str]:
    """Return the page and a policy under which nothing but its own code runs."""
    page = resources.files("pyproxy.admin").joinpath("page.html").read_bytes()
    allowed: dict[str, list[str]] = {"style": [], "script": []}
    for kind, content in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode("ascii")
        allowed[kind.decode("ascii")].append(f"'sha256-{digest}'")
    rules = [f"{kind}-src {' '.join(hashes)}" for kind, hashes in allowed.items()]
    rest = "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors"
    return page, f"default-src 'none'; {'; '.join(rules)}; {rest} 'none'"
