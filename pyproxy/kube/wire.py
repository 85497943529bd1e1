"""Requests to the apiserver of an access: TLS, proxy, credentials; nothing typed.

The one place where foreign errors become KubeError. A 401 renews the credentials once,
and the request is sent again only if Authorization changed by that.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import aiohttp
import msgspec
import yarl

from pyproxy.kube.config import Access, Clock, CredentialsError, Current, Tls
from pyproxy.kube.config import user_agent as our_name
from pyproxy.kube.config.errors import neutral
from pyproxy.kube.config.headers import Pairs
from pyproxy.kube.config.pem import client_context
from pyproxy.kube.config.server import Server
from pyproxy.kube.errors import MALFORMED, UNREACHABLE, KubeError, TooLargeVersionError
from pyproxy.kube.keepalive import kept_alive
from pyproxy.kube.objects import Status
from pyproxy.kube.proxied import ProxiedConnector
from pyproxy.tls import shown_name

logger = logging.getLogger(__name__)

POLL_S = 2.0  # how often kubeconfig and credentials on disk are looked at
CONNECT_S = 30.0  # client-go's
ANSWER_S = 65.0  # a little longer than an apiserver gives a request: it says why
BUFFER_BYTES = 1 << 16  # of a response; twice this is decoded in one step, at most
MAX_REFUSAL_BYTES = 1 << 20
MOST_CHANGES = 3  # of the access, while one credential is waited for
SHOWN_CHARACTERS = 200  # of a refusal that is no Status
JSON = "application/json"

Params = Mapping[str, str]

_status = msgspec.json.Decoder(Status)


@dataclass(frozen=True, slots=True)
class _Route:
    """What a session is made for."""

    server: Server
    proxy_url: str
    tls: Tls | None


@dataclass(frozen=True, slots=True)
class _Way:
    """A session, and what its requests must say of TLS."""

    route: _Route
    session: aiohttp.ClientSession
    context: ssl.SSLContext | None


class Wire:
    """Requests to one apiserver; follows the files behind its access."""

    def __init__(
        self, current: Current, *, clock: Clock | None = None, user_agent: str = ""
    ) -> None:
        """Take `current` over: it is closed with this."""
        self._current = current
        self.clock = clock or Clock()
        self._agent = user_agent or our_name()
        self._way: _Way | None = None

    @property
    def access(self) -> Access:
        """Where the apiserver is, as of now."""
        return self._current.access

    async def close(self) -> None:
        """End what runs. Requests under way fail."""
        way, self._way = self._way, None
        await _hang_up(way)
        await self._current.close()

    async def poll(self) -> None:
        """Look at kubeconfig and credentials.

        Another server, proxy or certificate ends all requests of the old one, as in
        client-go: their callers try again.
        """
        self._current.poll()
        await self._current.settle()
        if self._way is not None and self._way.route != _route(self.access):
            way, self._way = self._way, None
            await _hang_up(way)

    async def follow_files(self) -> None:
        """Poll for ever."""
        while True:
            await self.clock.sleep(POLL_S)
            await self.poll()

    async def call(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        body: bytes = b"",
        content_type: str = JSON,
        timeout_s: float = CONNECT_S,
    ) -> bytes:
        """Send a request and return what came. Raise KubeError."""
        doing = f"{method} {path}"
        try:
            async with (
                self.clock.timeout(timeout_s),
                self.stream(method, path, params, body, content_type) as response,
            ):
                return await response.read()
        except TimeoutError as error:
            _lost(doing, f"no answer within {timeout_s:g} s", error)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        body: bytes = b"",
        content_type: str = JSON,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and lend its response; raise KubeError, also while it is read.

        A TimeoutError that leaves the block is one of the request.
        """
        doing = f"{method} {path}"
        response: aiohttp.ClientResponse | None = None
        try:
            async with self.clock.timeout(ANSWER_S):
                response = await self._send(method, path, params, body, content_type)
                if response.status >= 400:
                    raise await _refusal(response, doing)
            yield response
        except CredentialsError as error:
            raise KubeError(f"{doing}: {error}", reason="NoCredentials") from error
        except TimeoutError as error:
            _lost(doing, "timed out", error)
        except (aiohttp.ClientError, OSError, EOFError) as error:
            _lost(doing, str(error) or type(error).__name__, error)
        finally:
            if response is not None:
                _drop(response)

    async def _send(
        self, method: str, path: str, params: Params | None, body: bytes, kind: str
    ) -> aiohttp.ClientResponse:
        access, shown = await self._shown()
        credentials = access.credentials
        generation = credentials.generation
        request = (method, path, params, body, kind)
        response = await self._send_as(access, shown, *request)
        if response.status != 401 or not credentials.refreshable:
            return response
        if credentials.rejected(generation):
            with contextlib.suppress(CredentialsError):  # the 401 says more
                renewed = await credentials.headers()
                if renewed != shown and self.access.server == access.server:
                    _drop(response)
                    return await self._send_as(access, renewed, *request)
        return response

    async def _shown(self) -> tuple[Access, Pairs]:
        """Return where to send a request, and what to show there.

        Credentials may take their time, and the access may change meanwhile: those of
        one server are never shown to another.
        """
        for _ in range(MOST_CHANGES):
            access = self.access
            shown = await access.credentials.headers()
            if self.access is access:
                return access, shown
        raise KubeError("kubeconfig changes all the time", reason=UNREACHABLE)

    async def _send_as(
        self,
        access: Access,
        shown: Pairs,
        method: str,
        path: str,
        params: Params | None,
        body: bytes,
        kind: str,
    ) -> aiohttp.ClientResponse:
        way = await self._way_to(access)
        route = way.route
        is_near = access.disable_compression or access.server.is_loopback
        headers = [
            *access.impersonation,
            *shown,
            ("Accept", JSON),
            ("Accept-Encoding", "identity" if is_near else "gzip"),
            ("User-Agent", self._agent),
        ]
        if body:
            headers.append(("Content-Type", kind))
        url = yarl.URL(access.server.url + path, encoded=True)
        return await way.session.request(
            method,
            url.with_query(params) if params else url,
            headers=headers,
            data=body or None,
            allow_redirects=False,
            ssl=way.context if way.context is not None else True,
            server_hostname=shown_name(route.tls.server_name) if route.tls else None,
        )

    async def _way_to(self, access: Access) -> _Way:
        """Return the way there, as it is now."""
        route, old = _route(access), self._way
        if old is not None and old.route == route:
            return old
        # In one turn of the loop, or two requests would open one each.
        self._way = way = _open(route)
        await _hang_up(old)
        return way


def _open(route: _Route) -> _Way:
    context = client_context(route.tls) if route.tls else None
    connector: aiohttp.BaseConnector
    if route.proxy_url:
        connector = ProxiedConnector(route.proxy_url, limit=0)
    else:
        # No limit: watches hold one each.
        connector = aiohttp.TCPConnector(limit=0, socket_factory=kept_alive)
    session = aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_S),
        read_bufsize=BUFFER_BYTES,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
    )
    return _Way(route, session, context)


async def _hang_up(way: _Way | None) -> None:
    if way is None:
        return
    # aiohttp closes connections in use without telling their readers, which would wait
    # for ever. Of an aborted connection they learn, a turn of the loop later.
    assert way.session.connector is not None
    for protocol in tuple(way.session.connector._acquired):
        if protocol.transport is not None:
            protocol.transport.abort()
    await asyncio.sleep(0)
    await way.session.close()


def _route(access: Access) -> _Route:
    return _Route(access.server, access.proxy_url, access.tls)


def _drop(response: aiohttp.ClientResponse) -> None:
    """Give its connection back, or end one that has more to say at once.

    A close_notify would wait for the peer's, 30 s where a watch is busy or paused.
    """
    connection = response.connection  # None = it came to its end
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


async def _refusal(response: aiohttp.ClientResponse, doing: str) -> KubeError:
    """Read why a request was refused."""
    raw = b""
    while len(raw) < MAX_REFUSAL_BYTES and (part := await response.content.readany()):
        raw += part
    try:
        status = _status.decode(raw)
    except msgspec.DecodeError:
        text = neutral(raw.decode("utf-8", "replace"))[:SHOWN_CHARACTERS].strip()
        status = Status(message=text or (response.reason or ""))
    return error_of(status, doing, response.status, _seconds(response))


def error_of(
    status: Status, doing: str, code: int = 0, retry_after_s: float = 0.0
) -> KubeError:
    """Return the error that a Status stands for."""
    details = status.details
    causes = details.causes if details else ()
    said_s = float(details.retry_after_seconds) if details else 0.0
    is_too_large = any(cause.reason == "ResourceVersionTooLarge" for cause in causes)
    kind = TooLargeVersionError if is_too_large else KubeError
    return kind(
        f"{doing}: {status.message or 'no reason given'}",
        code or status.code or 500,
        status.reason,
        max(retry_after_s, said_s),
    )


def malformed(doing: str, why: str) -> KubeError:
    """Return the error of an answer that is none of the API's."""
    return KubeError(f"{doing}: {why}", reason=MALFORMED)


def _seconds(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.0


def _lost(doing: str, why: str, error: Exception) -> NoReturn:
    raise KubeError(f"{doing}: {why}", reason=UNREACHABLE) from error
