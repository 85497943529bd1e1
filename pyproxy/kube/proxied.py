"""Connections through the HTTP or SOCKS proxy of a proxy-url, for aiohttp.

aiohttp itself knows HTTP proxies only. Here one way serves all three schemes, as in the
tunnel of kubectl-proxy: the proxy resolves names, TLS goes from us to the apiserver.
"""

import asyncio
import ssl
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from pyproxy.kube.keepalive import keep_alive
from pyproxy.proxyurl import ProxyError, ProxyUrl


class ProxiedConnector(aiohttp.TCPConnector):
    """Dials everything through one proxy."""

    def __init__(self, proxy_url: str, **options: Any) -> None:
        """`proxy_url` was checked; it may hold a user and a password."""
        super().__init__(resolver=_LeftToTheProxy(), **options)
        self._proxy = ProxyUrl(proxy_url)
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
        host, port = req.url.host or "", req.url.port or 0
        tls = options.get("ssl") or None
        try:
            if self._proxy.speaks_tls:
                return await self._tls_in_tls(factory, host, port, tls, server_hostname)
            connection = await self._proxy.open_socket(host, port)
            keep_alive(connection)
            return await asyncio.get_running_loop().create_connection(
                factory,
                sock=connection,
                ssl=tls,
                server_hostname=server_hostname if tls else None,
            )
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except ProxyError as error:
            why = OSError(0, f"through {self._proxy.shown}: {error}")
            raise client_error(req.connection_key, why) from error
        except TimeoutError:
            raise
        except OSError as error:
            raise client_error(req.connection_key, error) from error

    async def _tls_in_tls(
        self,
        factory: Any,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        name: str | None,
    ) -> tuple[asyncio.BaseTransport, ResponseHandler]:
        reader, writer = await self._proxy.open_streams(host, port)
        transport = cast("asyncio.Transport", writer.transport)
        if reader._buffer:  # type: ignore[attr-defined]
            transport.abort()  # a client of HTTP and of TLS speaks first
            raise ProxyError("the proxy says more than that there is a connection")
        self._streams = [s for s in self._streams if not s.transport.is_closing()]
        self._streams.append(writer)
        keep_alive(writer.get_extra_info("socket"))
        protocol: ResponseHandler = factory()
        if tls is not None:
            transport = await self._secure(transport, protocol, tls, name)
        else:
            transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return transport, protocol

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
