"""Requests through the proxy of a proxy-url, under both event loops."""

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pyproxy.kube.config import ClientFlags, Current
from pyproxy.kube.errors import KubeError
from pyproxy.kube.wire import Wire
from pyproxy.sandbox.apiserver import Apiserver
from pyproxy.sandbox.certificates import Authority
from tests.fakes.forwarder import Forwarder
from tests.support.kube_server import NOWHERE, until
from tests.support.kube_time import FakeTime

NAME = "apiserver.example"  # that only the proxy can resolve

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, uvloop_was_used_before: None) -> Run:
    """Run something to its end."""
    found: Run = request.param
    return found


@pytest.fixture(params=["http", "https", "socks5"])
def proxy(
    request: pytest.FixtureRequest, issuer: Authority, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Forwarder]:
    """A proxy of each kind."""
    pair = None
    if request.param == "https":
        monkeypatch.setenv("SSL_CERT_FILE", str(issuer.certificate))
        pair = issuer.issue("proxy", ["127.0.0.1"])
    with Forwarder(request.param, pair) as forwarder:
        forwarder.names[NAME] = "127.0.0.1"
        yield forwarder


def wire_through(proxy: Forwarder, issuer: Authority, port: int) -> Wire:
    """Return a way to the API server that goes through the proxy."""
    flags = ClientFlags(
        server=f"https://{NAME}:{port}",
        certificate_authority=str(issuer.certificate),
        token="admin-token",
        proxy_url=proxy.url.replace("://", "://me:p%40ss@"),
    )
    return Wire(Current(flags, NOWHERE))


async def ended(wire: Wire, proxy: Forwarder) -> None:
    """Close, and wait until every side has noticed: handles close in later turns."""
    await wire.close()
    await until(lambda: not proxy.live)
    await FakeTime().settle()


def options(wire: Wire) -> list[tuple[int, int]]:
    """Return SO_KEEPALIVE and TCP_KEEPIDLE of the connections that are kept."""
    assert wire._way is not None
    pool = wire._way.session.connector._conns  # type: ignore[union-attr]
    found = [
        protocol.transport.get_extra_info("socket")
        for kept in pool.values()
        for protocol, _ in kept
        if protocol.transport is not None
    ]
    return [
        (
            each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            each.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        )
        for each in found
    ]


def test_request_goes_through_the_proxy(
    proxy: Forwarder, run: Run, issuer: Authority
) -> None:
    async def work() -> None:
        pair = issuer.issue("apiserver", [NAME])
        server = Apiserver(pair, issuer.certificate, is_populated=False)
        async with server:
            wire = wire_through(proxy, issuer, server.port)
            for _ in range(3):
                raw = await wire.call("GET", "/api/v1/namespaces/default/services")
                assert raw.startswith(b'{"kind":"ServiceList"')
            assert options(wire) == [(1, 30)]
            await ended(wire, proxy)
            assert proxy.went == [f"{NAME}:{server.port}"]  # it is kept alive
        assert any("p@ss" in said for said in proxy.said)

    run(work())


def test_proxy_that_refuses_is_named(
    proxy: Forwarder, run: Run, issuer: Authority
) -> None:
    async def work() -> None:
        proxy.refuse = True
        wire = wire_through(proxy, issuer, 1)
        with pytest.raises(KubeError) as caught:
            await wire.call("GET", "/version")
        await wire.close()
        assert caught.value.reason == "Unreachable"
        assert f"through {proxy.kind}://…@127.0.0.1" in str(caught.value)
        assert "p@ss" not in str(caught.value)

    run(work())


def test_certificate_is_the_apiservers_not_the_proxys(
    proxy: Forwarder, run: Run, issuer: Authority, tmp_path: Path
) -> None:
    if proxy.kind == "https" and run is asyncio.run and sys.version_info < (3, 11, 8):
        pytest.skip("TLS in TLS of this CPython fails at failing (gh-113214)")

    async def work() -> None:
        pair = issuer.issue("stranger", ["stranger.example"])
        server = Apiserver(pair, issuer.certificate, is_populated=False)
        async with server:
            wire = wire_through(proxy, issuer, server.port)
            with pytest.raises(KubeError, match=r"apiserver\.example"):
                await wire.call("GET", "/version")
            await ended(wire, proxy)

    run(work())


def test_direct_connection_is_kept_alive(run: Run, issuer: Authority) -> None:
    # A watch sends nothing: without probes, a peer that vanished is never missed.
    async def work() -> None:
        pair = issuer.issue("apiserver", ["127.0.0.1"])
        async with Apiserver(pair, issuer.certificate, is_populated=False) as server:
            flags = ClientFlags(
                server=server.url, certificate_authority=str(issuer.certificate)
            )
            wire = Wire(Current(flags, NOWHERE))
            await wire.call("GET", "/version")
            assert options(wire) == [(1, 30)]
            await wire.close()

    run(work())
