"""Connections through the HTTP or SOCKS proxy of a proxy-url, for aiohttp.

aiohttp itself knows HTTP proxies only. Here one way serves all three schemes, as in the
tunnel of kubectl-proxy: the proxy resolves names, TLS goes from us to the apiserver.
"""

import asyncio
import ssl
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio.v2 import Proxy

from pyproxy.kube.keepalive import keep_alive

DIAL_TIMEOUT_S = 30.0  # client-go's, for dialing and for the proxy's answer

_KINDS = {
    "http": (ProxyType.HTTP, 80),
    "https": (ProxyType.HTTP, 443),
    "socks5": (ProxyType.SOCKS5, 1080),
    "socks5h": (ProxyType.SOCKS5, 1080),
}


class ProxiedConnector(aiohttp.TCPConnector):
    """Dials everything through one proxy."""

    def __init__(self, proxy_url: str, **options: Any) -> None:
        """`proxy_url` was checked; it may hold a user and a password."""
        super().__init__(resolver=_LeftToTheProxy(), **options)
        url = urlsplit(proxy_url)
        kind, usual_port = _KINDS[url.scheme]
        self._proxy = (kind, url.hostname or "", url.port or usual_port)
        self._user = (unquote(url.username or ""), unquote(url.password or ""))
        self._through_tls = url.scheme == "https"
        # A StreamWriter that is collected closes its transport: kept while that lives.
        self._streams: list[asyncio.StreamWriter] = []

    async def _wrap_create_connection(  # type: ignore[override]
        self,
        factory: Any,
        *_: Any,
        req: aiohttp.ClientRequest,
        client_error: type[aiohttp.ClientConnectorError] = aiohttp.ClientConnectorError,
        server_hostname: str | None = None,
        **options: Any,
    ) -> tuple[asyncio.BaseTransport, ResponseHandler]:
        """Stand in for the one place where aiohttp makes a connection."""
        try:
            transport = await self._dial(req.url.host or "", req.url.port or 0)
            protocol: ResponseHandler = factory()
            if tls := options.get("ssl"):
                transport = await self._secure(
                    transport, protocol, tls, server_hostname
                )
            else:
                transport.set_protocol(protocol)
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except (ProxyError, EOFError, ValueError) as error:
            why = OSError(0, f"proxyconnect tcp: {error}")
            raise client_error(req.connection_key, why) from error
        except TimeoutError:
            raise
        except OSError as error:
            raise client_error(req.connection_key, error) from error
        protocol.connection_made(transport)
        return transport, protocol

    async def _dial(self, host: str, port: int) -> asyncio.Transport:
        outer = ssl.create_default_context() if self._through_tls else None
        proxy = Proxy(*self._proxy, *self._user, rdns=True, proxy_ssl=outer)
        stream = await proxy.connect(host, port, timeout=DIAL_TIMEOUT_S)
        self._streams = [s for s in self._streams if not s.transport.is_closing()]
        self._streams.append(stream.writer)
        keep_alive(stream.writer.get_extra_info("socket"))
        return cast("asyncio.Transport", stream.writer.transport)

    async def _secure(
        self,
        transport: asyncio.Transport,
        protocol: ResponseHandler,
        context: ssl.SSLContext,
        name: str | None,
    ) -> asyncio.Transport:
        try:
            made = await asyncio.get_running_loop().start_tls(
                transport, protocol, context, server_hostname=name
            )
        except BaseException:
            transport.abort()
            raise
        assert made is not None
        return made


class _LeftToTheProxy(AbstractResolver):
    """Resolves nothing: names are the proxy's to resolve, as in Go."""

    async def resolve(
        self, host: str, port: int = 0, family: int = 0
    ) -> list[ResolveResult]:
        """Return the name in place of an address."""
        return [
            ResolveResult(
                hostname=host, host=host, port=port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None:
        """Let go of nothing."""
