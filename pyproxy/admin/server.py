"""The HTTP side of the admin address: a few GETs, nothing that changes anything."""

import base64
import errno
import hashlib
import ipaddress
import logging
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import resources

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from pyproxy.admin.health import Health, report
from pyproxy.config import is_loopback, parse_address
from pyproxy.errors import StartError
from pyproxy.model import format_address

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_INLINE = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the answers come from; called at each request."""

    health: Health
    registry: CollectorRegistry
    table: Callable[[], dict[str, object]]
    config: Callable[[], dict[str, object]]


class Admin:
    """A listening admin address."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._runner: web.AppRunner | None = None
        self._page, self._policy = _load_page()
        self._local_only = True

    async def open(self, address: str) -> str:
        """Listen on `HOST:PORT` and return where. Raise StartError if it cannot be."""
        host, port = parse_address(address, zero_port=True)
        self._local_only = is_loopback(host)
        if not self._local_only:
            logger.warning(
                "admin address is open to the network, without authentication",
                extra={"address": address},
            )
        app = web.Application(middlewares=[self._guard])
        for path, handler in self._routes().items():
            app.router.add_get(path, handler)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self.close()
            raise StartError(*_explain(address, error)) from error
        bound = self._runner.addresses[0]
        where = format_address(bound[0], bound[1])
        logger.info("admin address open", extra={"url": f"http://{where}/"})
        return where

    async def close(self) -> None:
        """Stop listening. May be called twice."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def _routes(self) -> dict[str, Handler]:
        return {
            "/": self._live_page,
            "/healthz": self._alive,
            "/livez": self._alive,
            "/readyz": self._ready,
            "/metrics": self._metrics,
            "/debug/table": self._table,
            "/debug/config": self._config,
        }

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        # DNS rebinding: a foreign page may point its own name at 127.0.0.1 and read
        # us; the browser still sends that name as Host.
        if self._local_only and not _is_local_name(request.host):
            raise web.HTTPForbidden(text="this address answers to local names only\n")
        response = await handler(request)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Server"] = "pyproxy"
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _live_page(self, request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": self._policy}
        return web.Response(body=self._page, content_type="text/html", headers=headers)

    async def _alive(self, request: web.Request) -> web.Response:
        return _answer(request, [("ping", None)])

    async def _ready(self, request: web.Request) -> web.Response:
        return _answer(request, self._sources.health.complaints())

    async def _metrics(self, request: web.Request) -> web.Response:
        body = generate_latest(self._sources.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _table(self, request: web.Request) -> web.Response:
        health = self._sources.health
        return web.json_response({**self._sources.table(), "ready": health.ready})

    async def _config(self, request: web.Request) -> web.Response:
        return web.json_response(self._sources.config())


def _answer(request: web.Request, checks: list[tuple[str, str | None]]) -> web.Response:
    name = request.path.strip("/")
    well, text = report(name, checks, verbose="verbose" in request.query)
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


def _is_local_name(host_header: str) -> bool:
    host = host_header.rpartition(":")[0] if ":" in host_header else host_header
    if host_header.startswith("["):
        host = host_header[1:].partition("]")[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _explain(address: str, error: OSError) -> tuple[str, str]:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        hint = "choose another with --admin-address, or switch it off with an empty one"
    else:
        hint = ""
    why = os.strerror(error.errno).lower() if error.errno else str(error)
    return f"cannot open the admin address {address}: {why}", hint
