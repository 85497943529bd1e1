"""The API server: HTTPS in front of a cluster in memory."""

import asyncio
import contextlib
import logging
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from pyproxy.sandbox.apiserver import discovery, inside, openapi, pods, seed
from pyproxy.sandbox.apiserver.answers import PLAIN, not_served, refused, write
from pyproxy.sandbox.apiserver.cluster import Call, Cluster
from pyproxy.sandbox.apiserver.handlers import Handlers
from pyproxy.sandbox.apiserver.identity import Identity, impersonated
from pyproxy.sandbox.apiserver.keeper import Keeper
from pyproxy.sandbox.apiserver.kinds import GROUPS
from pyproxy.sandbox.apiserver.media import Format, accepted
from pyproxy.sandbox.apiserver.rbac import denial
from pyproxy.sandbox.apiserver.refusal import Refusal, no_such_resource
from pyproxy.sandbox.apiserver.route import Target, parse
from pyproxy.sandbox.certificates import Pair

logger = logging.getLogger(__name__)

LARGEST_BODY = 3 << 20  # bytes, as kube-apiserver
END_S = 0.2  # for requests that are answered when we end; watches never are


class Apiserver:
    """One API server on one address; an asynchronous context manager."""

    def __init__(
        self,
        pair: Pair,
        ca: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        is_populated: bool = True,
        second: float = 1.0,
        real: inside.Real | None = None,
    ) -> None:
        """Prepare it.

        Args:
            pair: its certificate and key.
            ca: what it trusts client certificates by.
            host: where it listens.
            port: where it listens; 0 = any.
            is_populated: whether there are pods, and a keeper that starts new ones. A
                kube-apiserver alone has neither.
            second: how long it takes for a second of a watch's timeout to pass.
            real: ports of what is really there.
        """
        self.cluster = Cluster(second=second)
        self.logs = pods.Logs()
        self._keeper = Keeper(self.cluster, self.logs) if is_populated else None
        self._handlers = Handlers(self.cluster, self.logs, self._settle)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(pair.certificate, pair.key)
        self._tls.load_verify_locations(ca)
        self._tls.verify_mode = ssl.CERT_OPTIONAL
        self._host, self._port = host, port
        self._real = real
        self._runner: web.ServerRunner | None = None
        self._ticker: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"https://{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        server = web.Server(
            self._handle, request_factory=_request, handler_cancellation=True
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=END_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.cluster.address = f"{self._host}:{self._port}"
        seed.fill(self.cluster, is_populated=self._keeper is not None)
        if self._keeper is not None:
            if self._real is not None:
                inside.begin(self.cluster)
            self._keeper.settle()
            seed.endpoints(self.cluster)
            if self._real is not None:
                inside.expose(self.cluster, self._real)
            self._ticker = asyncio.create_task(self._tick(self._keeper))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        if self._runner is not None:
            await self._runner.cleanup()

    def _settle(self) -> None:
        if self._keeper is not None:
            self._keeper.settle()

    async def _tick(self, keeper: Keeper) -> None:
        number = 0
        while True:
            await asyncio.sleep(self.cluster.second)
            number += 1
            keeper.tick(number)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return refused(refusal, request)
        except web.HTTPRequestEntityTooLarge:
            what = f"Request entity too large: limit is {LARGEST_BODY}"
            return refused(Refusal(413, "RequestEntityTooLarge", what, {}), request)
        except Exception as error:
            logger.exception("request failed", extra={"path": request.path})
            what = f"Internal error occurred: {error}"
            return refused(Refusal(500, "InternalError", what, {}), request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        target = parse(request.method, request.path, request.query)
        user = self._authenticate(request, target)
        if not self.cluster.authorizer.decide(user, target).is_allowed:
            raise denial(user, target)
        if not target.is_resource:
            return self._plain(request, target)
        if target.resource is None:
            if target.group and target.group not in GROUPS:
                return not_served()
            raise no_such_resource()
        agent = request.headers.get("User-Agent", "")
        return await self._handlers.answer(
            request, Call(target, request.query, user, agent)
        )

    def _authenticate(self, request: web.BaseRequest, target: Target) -> Identity:
        assert request.transport is not None
        session = request.transport.get_extra_info("ssl_object")
        certificate = session.getpeercert() if session else None
        user = self.cluster.identities.authenticate(request.headers, certificate)
        other = impersonated(request.headers)
        if other is None:
            return user
        as_user = Target("impersonate", "", True, "", "v1", "users", "", other.name)
        if not self.cluster.authorizer.decide(user, as_user).is_allowed:
            # 1.36 asks for a right that is bound to what is done first.
            verb = f"impersonate-on:user-info:{target.verb}"
            raise denial(user, target, verb)
        return other

    def _plain(self, request: web.BaseRequest, target: Target) -> web.Response:
        """Answer what is no resource: discovery, health, version, OpenAPI."""
        path = target.path
        verbose = "verbose" in request.query
        if (text := discovery.health(path, verbose)) is not None:
            return web.Response(text=text, headers=PLAIN)
        header = request.headers.get("Accept", "")
        if path == "/version":
            return write(discovery.VERSION, Format(), request)
        if path == "/openapi/v3":
            return write(openapi.index(), Format(), request)
        if path.startswith("/openapi/v3/"):
            found = openapi.document(path.removeprefix("/openapi/v3/"))
            return write(found, Format(), request) if found else not_served()
        form = accepted(header, ("APIGroupDiscoveryList",))
        found = discovery.document(path, form, self.cluster.address)
        if found is None and path.startswith("/api/"):
            raise no_such_resource()
        if found is None:
            return not_served()
        answer = write(found, form, request)
        if form.shape == "APIGroupDiscoveryList" and "items" in found:
            answer.headers["Content-Type"] = (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            )
            answer.headers["Vary"] = "Accept"
            answer.headers["ETag"] = discovery.etag(found)
        return answer


def _request(
    message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(
        *(message, payload, protocol, writer, task, loop), client_max_size=LARGEST_BODY
    )
