"""Requests to the apiserver of an access: TLS, proxy, credentials; nothing typed.

The one place where foreign errors become KubeError. A 401 renews the credentials once,
and the request is sent again only if Authorization changed by that.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

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

if TYPE_CHECKING:
    import ssl

logger = logging.getLogger(__name__)

POLL_S = 2.0  # how often kubeconfig and credentials on disk are looked at
CONNECT_S = 30.0  # client-go's
ANSWER_S = 65.0  # a little longer than an apiserver gives a request: it says why
BUFFER_BYTES = 1 << 16  # of a response; twice this is decoded in one step, at most
MAX_REFUSAL_BYTES = 1 << 20
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


class Wire:
    """Requests to one apiserver; follows the files behind its access."""

    def __init__(
        self, current: Current, *, clock: Clock | None = None, user_agent: str = ""
    ) -> None:
        """Take `current` over: it is closed with this."""
        self._current = current
        self.clock = clock or Clock()
        self._agent = user_agent or our_name()
        self._route: _Route | None = None
        self._session: aiohttp.ClientSession | None = None
        self._context: ssl.SSLContext | None = None

    @property
    def access(self) -> Access:
        """Where the apiserver is, as of now."""
        return self._current.access

    async def close(self) -> None:
        """End what runs. Requests under way fail."""
        await self._hang_up()
        await self._current.close()

    async def poll(self) -> None:
        """Look at kubeconfig and credentials.

        Another server, proxy or certificate ends all that the old way carried, as
        client-go does it: whoever sent it tries again.
        """
        self._current.poll()
        await self._current.settle()
        if self._route != _route(self.access):
            await self._hang_up()

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
        credentials = self.access.credentials
        shown = await credentials.headers()
        generation = credentials.generation
        response = await self._send_as(shown, method, path, params, body, kind)
        if response.status != 401 or not credentials.refreshable:
            return response
        if credentials.rejected(generation):
            with contextlib.suppress(CredentialsError):  # the 401 says more
                renewed = await credentials.headers()
                if renewed != shown:
                    response.close()
                    return await self._send_as(
                        renewed, method, path, params, body, kind
                    )
        return response

    async def _send_as(
        self,
        shown: Pairs,
        method: str,
        path: str,
        params: Params | None,
        body: bytes,
        kind: str,
    ) -> aiohttp.ClientResponse:
        access = self.access
        session = await self._session_for(access)
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
        tls = self._route.tls if self._route else None
        return await session.request(
            method,
            url.with_query(params) if params else url,
            headers=headers,
            data=body or None,
            allow_redirects=False,
            ssl=self._context if self._context is not None else True,
            server_hostname=tls.server_name if tls else None,
        )

    async def _session_for(self, access: Access) -> aiohttp.ClientSession:
        """Return a session for the way there is now."""
        route = _route(access)
        if self._session is not None and route == self._route:
            return self._session
        await self._hang_up()
        self._context = client_context(route.tls) if route.tls else None
        if route.proxy_url:
            connector: aiohttp.BaseConnector = ProxiedConnector(
                route.proxy_url, limit=0
            )
        else:
            connector = aiohttp.TCPConnector(
                limit=0,  # watches hold one each
                socket_factory=kept_alive,
            )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_S),
            read_bufsize=BUFFER_BYTES,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
        )
        self._route = route
        return self._session

    async def _hang_up(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        # aiohttp closes connections in use without telling their readers, who would
        # wait for ever. An aborted connection is told of, a turn of the loop later.
        assert session.connector is not None
        for protocol in tuple(session.connector._acquired):
            if protocol.transport is not None:
                protocol.transport.abort()
        await asyncio.sleep(0)
        await session.close()


def _route(access: Access) -> _Route:
    return _Route(access.server, access.proxy_url, access.tls)


def _drop(response: aiohttp.ClientResponse) -> None:
    """Give its connection back, or end one that has more to say at once.

    A TLS farewell would wait for the peer's, 30 s where a watch is busy or paused.
    """
    connection = response.connection  # None = it came to its end
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


async def _refusal(response: aiohttp.ClientResponse, doing: str) -> KubeError:
    """Read why a request was refused."""
    raw = await response.content.read(MAX_REFUSAL_BYTES)
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
