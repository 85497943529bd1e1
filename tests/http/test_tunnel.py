"""A tunnel passes bytes and their ends both ways, through each kind of proxy."""

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pyproxy.http.tunnel import Tunnel
from pyproxy.proxyurl import without_password
from pyproxy.sandbox.certificates import Authority
from tests.fakes.forwarder import Forwarder
from tests.support.servers import EchoServer
from tests.support.waiting import scaled, wait_until

pytestmark = pytest.mark.live


@pytest.fixture
async def echo() -> AsyncIterator[EchoServer]:
    with EchoServer() as server:
        yield server


async def say(path: str, text: bytes) -> bytes:
    """Send, half-close, and return what comes back until the end."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(text)
        writer.write_eof()
        async with asyncio.timeout(scaled(10.0)):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("kind", ["http", "socks5", "socks5h"])
async def test_tunnel_passes_bytes_and_half_close(echo: EchoServer, kind: str) -> None:
    with Forwarder(kind) as proxy:
        tunnel = Tunnel(proxy.url, *echo.address)
        path = await tunnel.open()
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
        text = os.urandom(300_000)
        assert await say(path, text) == text
        assert proxy.went == [f"127.0.0.1:{echo.address.port}"]
        await tunnel.close()
        await tunnel.close()
        assert not Path(path).parent.exists()


async def test_tunnel_without_a_proxy_dials_by_itself(
    echo: EchoServer, free_port: int
) -> None:
    # For addresses in a zone, which the core cannot dial.
    tunnel = Tunnel("", *echo.address)
    text = os.urandom(300_000)
    assert await say(await tunnel.open(), text) == text
    await tunnel.close()
    tunnel = Tunnel("", "127.0.0.1", free_port)
    told = await say(await tunnel.open(), b"\x16 and so on")
    at = f"127.0.0.1:{free_port}"
    assert told.decode() == f"dial tcp {at}: connect: connection refused"
    await tunnel.close()


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_tunnel_lets_the_proxy_resolve_names_and_shows_who_we_are(
    echo: EchoServer, kind: str
) -> None:
    with Forwarder(kind) as proxy:
        proxy.names["api.invalid"] = "127.0.0.1"
        url = proxy.url.replace("//", "//ann:s%40same@")
        tunnel = Tunnel(url, "api.invalid", echo.address.port)
        assert await say(await tunnel.open(), b"hello") == b"hello"
        await tunnel.close()
        assert proxy.went == [f"api.invalid:{echo.address.port}"]
        assert proxy.said == ["ann:s@same"]


async def test_tunnel_speaks_tls_with_an_https_proxy(
    echo: EchoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(issuer.certificate))
    with Forwarder("https", issuer.issue("proxy", ["127.0.0.1"])) as proxy:
        tunnel = Tunnel(proxy.url, *echo.address)
        path = await tunnel.open()
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()
        await tunnel.close()


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_tunnel_through_proxy_that_refuses_ends_and_says_why(
    echo: EchoServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Forwarder(kind) as proxy:
        proxy.refuse = True
        tunnel = Tunnel(proxy.url.replace("//", "//ann:sesame@"), *echo.address)
        with caplog.at_level(logging.WARNING):
            assert await ended(await tunnel.open())
        await tunnel.close()
    assert "no way through the proxy" in caplog.text
    assert "sesame" not in str([vars(record) for record in caplog.records])


async def ended(path: str) -> bool:
    """Whether a connection ends at once, however it does."""
    try:
        return await say(path, b"x") == b""
    except OSError:
        return True


async def test_tunnel_through_nobody_ends(echo: EchoServer, free_port: int) -> None:
    tunnel = Tunnel(f"http://127.0.0.1:{free_port}", *echo.address)
    assert await ended(await tunnel.open())
    await tunnel.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:{}", "dial tcp 127.0.0.1:{}: connect: connection refused"),
        ("socks5://127.0.0.1:{}", "dial tcp 127.0.0.1:{}: connect: connection refused"),
        ("http://proxy.invalid", "dial tcp: lookup proxy.invalid: no such host"),
    ],
)
async def test_who_expects_a_handshake_is_told_why_there_is_none(
    echo: EchoServer, free_port: int, url: str, why: str
) -> None:
    tunnel = Tunnel(url.format(free_port), *echo.address)
    told = await say(await tunnel.open(), b"\x16 and so on")
    assert told.decode() == "proxyconnect tcp: " + why.format(free_port)
    await tunnel.close()


async def test_refusal_of_the_proxy_is_told(echo: EchoServer) -> None:
    with Forwarder("http") as proxy:
        proxy.refuse = True
        tunnel = Tunnel(proxy.url, *echo.address)
        told = await say(await tunnel.open(), b"\x16 and so on")
        assert told == b"Forbidden"
        await tunnel.close()


async def test_tunnel_closed_does_not_wait_for_who_says_nothing(
    echo: EchoServer, free_port: int
) -> None:
    tunnel = Tunnel(f"http://127.0.0.1:{free_port}", *echo.address)
    reader, writer = await asyncio.open_unix_connection(await tunnel.open())
    await asyncio.sleep(0.05)  # refused by now
    await tunnel.close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_tunnel_with_untrusted_proxy_ends(
    echo: EchoServer, tmp_path: Path
) -> None:
    with Forwarder("https", Authority(tmp_path).issue("proxy", ["127.0.0.1"])) as proxy:
        tunnel = Tunnel(proxy.url, *echo.address)
        assert await ended(await tunnel.open())
        await tunnel.close()
        assert proxy.went == []


async def test_tunnel_closed_ends_what_lives(echo: EchoServer) -> None:
    with Forwarder("http") as proxy:
        tunnel = Tunnel(proxy.url, *echo.address)
        reader, writer = await asyncio.open_unix_connection(await tunnel.open())
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await tunnel.close()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await asyncio.to_thread(wait_until, lambda: not proxy.live and not echo.live)


def test_without_password_hides_it() -> None:
    assert without_password("http://a:b@c/d") == "http://…@c/d"
