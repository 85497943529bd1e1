"""Ways through a proxy: its answer in any pieces, exactly what belongs to it is read.

Expectations: kubectl 1.37.1 behind the same proxies, asked again where it is installed;
Go, net/http transport.go.
"""

import asyncio
import base64
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import uvloop

from pyproxy.proxyurl import MAX_HEAD_BYTES, ProxyError, ProxyUrl, without_password
from pyproxy.sandbox.certificates import Authority, Pair
from tests.fakes.apiserver import authority
from tests.fakes.forwarder import Forwarder
from tests.fakes.kubectl import Recorder, ask, environment, one_context, write
from tests.support.servers import EchoServer, Server
from tests.support.waiting import scaled

pytestmark = pytest.mark.live

OK = b"HTTP/1.1 200 Connection established\r\n"
GAP_S = 0.02


class Pieces(Forwarder):
    """An HTTP proxy that answers in these pieces, then passes bytes on."""

    def __init__(self, *pieces: bytes, gap_s: float = GAP_S, goes: bool = True) -> None:
        super().__init__("http")
        self._pieces, self._gap_s, self._goes = pieces, gap_s, goes

    def answer(self, connection: socket.socket) -> bool:
        """Say it; return whether there is a connection now."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in self._pieces:
            connection.sendall(piece)
            time.sleep(self._gap_s)
        return self._goes


def bytewise(raw: bytes) -> tuple[bytes, ...]:
    """Cut into bytes."""
    return tuple(bytes([byte]) for byte in raw)


# Pieces, and why there is no connection then; "" = there is.
ANSWERS: dict[str, tuple[Sequence[bytes], str]] = {
    "whole": ([OK + b"\r\n"], ""),
    "two segments": ([OK, b"Proxy-Agent: x\r\n\r\n"], ""),
    "cut in the end": ([OK[:-1], b"\n\r", b"\n"], ""),
    "byte by byte": (bytewise(OK + b"A: b\r\n\r\n"), ""),
    "large head": ([OK + b"X: " + b"a" * 20_000 + b"\r\n", b"\r\n"], ""),
    "many headers": ([OK + (b"X: " + b"a" * 996 + b"\r\n") * 900, b"\r\n"], ""),
    "bare newlines": ([b"HTTP/1.1 200 OK\nA: b\n\n"], ""),
    "HTTP/1.0": ([b"HTTP/1.0 200 OK\r\n\r\n"], ""),
    "no reason": ([b"HTTP/1.1 200\r\n\r\n"], ""),
    "no reason after a space": ([b"HTTP/1.1 200 \r\n\r\n"], ""),
    "length of a body that is none": ([OK + b"Content-Length: 5\r\n\r\n"], ""),
    "chunks that are none": ([OK + b"Transfer-Encoding: chunked\r\n\r\n"], ""),
    "folded header": ([OK + b"A: b\r\n c\r\n\r\n"], ""),
    "201": ([b"HTTP/1.1 201 Created\r\n\r\n"], "Created"),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n"], "No Content"),
    "100 before": ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n"], "Continue"),
    "403": ([b"HTTP/1.1 403 Forbidden\r\n\r\n"], "Forbidden"),
    "407": (
        [b"HTTP/1.1 407 Proxy Authentication ", b"Required\r\nA: b\r\n\r\n"],
        "Proxy Authentication Required",
    ),
    "502 with a body": (
        [b"HTTP/1.1 502 Bad, mine\r\nContent-Length: 3\r\n\r\nabc"],
        "Bad, mine",
    ),
    "503 alone": ([b"HTTP/1.1 503\r\n\r\n"], "unknown status code"),
    "nothing": ([], "unexpected EOF"),
    "half a line": ([b"HTTP/1.1 200 O"], "unexpected EOF"),
    "a line": ([OK], "unexpected EOF"),
    "another protocol": (
        [b"SSH-2.0-x\r\n\r\n"],
        'malformed HTTP response "SSH-2.0-x"',
    ),
    "no number": (
        [b"HTTP/1.1 abc OK\r\n\r\n"],
        'malformed HTTP status code "abc"',
    ),
    "two digits": ([b"HTTP/1.1 99 OK\r\n\r\n"], 'malformed HTTP status code "99"'),
    "another version": (
        [b"HTTP/2 200 OK\r\n\r\n"],
        'malformed HTTP version "HTTP/2"',
    ),
    "no header": (
        [OK + b"nocolon\r\n\r\n"],
        'malformed MIME header: missing colon: "nocolon"',
    ),
}


@pytest.fixture
async def echo() -> AsyncIterator[EchoServer]:
    """What lies behind."""
    with EchoServer() as server:
        yield server


async def through(url: str, to: tuple[str, int], text: bytes = b"hello") -> bytes:
    """Go through a proxy by both ways of ours, and return what comes back."""
    reader, writer = await ProxyUrl(url).open_streams(*to)
    writer.write(text)
    back = await reader.readexactly(len(text))
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    if ProxyUrl(url).speaks_tls:
        return back
    connection = await ProxyUrl(url).open_socket(*to)
    loop = asyncio.get_running_loop()
    with connection:
        await loop.sock_sendall(connection, text)
        again = b""
        while len(again) < len(text):
            again += await loop.sock_recv(connection, 65536)
    assert again == back
    return back


async def refused(url: str, to: tuple[str, int]) -> str:
    """Return why there is no way."""
    with pytest.raises(ProxyError) as caught:
        await ProxyUrl(url).open_streams(*to)
    return str(caught.value)


@pytest.mark.parametrize("row", ANSWERS)
async def test_answer_is_read_to_its_end_whatever_its_pieces(
    echo: EchoServer, row: str
) -> None:
    pieces, why = ANSWERS[row]
    with Pieces(*pieces, goes=not why, gap_s=min(GAP_S, 1 / max(1, len(pieces)))) as at:
        if why:
            assert await refused(at.url, echo.address) == why
        else:
            assert await through(at.url, echo.address) == b"hello"


@pytest.mark.slow
def test_kubectl_reads_the_answers_so(tmp_path: Path) -> None:
    signer = authority(tmp_path / "pki")
    seen = {}
    with Recorder(signer.issue("server", ["127.0.0.1"])) as server:
        for row, (pieces, why) in ANSWERS.items():
            with Pieces(*pieces, goes=not why, gap_s=0.001) as proxy:
                cluster = {
                    "server": f"https://api.test:{server.address.port}",
                    "tls-server-name": "127.0.0.1",
                    "proxy-url": proxy.url,
                    "certificate-authority": str(signer.certificate),
                }
                proxy.names["api.test"] = "127.0.0.1"
                document = one_context(cluster, {"token": "t"})
                file = write(tmp_path / "config", document)
                env = environment(tmp_path, KUBECONFIG=str(file))
                code, _, said = ask("get", "--raw=/", env=env)
                told = said.strip().partition("to the server: ")[2]
                seen[row] = told if code else ""
    assert seen == {row: why for row, (_, why) in ANSWERS.items()}


@pytest.mark.parametrize("loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("behind", [b"!", b"\x16\x03\x01" * 30_000])
def test_bytes_right_behind_the_answer_are_the_connections(
    loop: Callable[..., None], behind: bytes, uvloop_was_used_before: None
) -> None:
    async def work() -> None:
        with EchoServer() as echo, Pieces(OK + b"\r\n" + behind) as proxy:
            reader, writer = await ProxyUrl(proxy.url).open_streams(*echo.address)
            writer.write(b"hello")
            assert await reader.readexactly(len(behind) + 5) == behind + b"hello"
            writer.close()
            await writer.wait_closed()
            with await ProxyUrl(proxy.url).open_socket(*echo.address) as connection:
                running = asyncio.get_running_loop()
                got = b""
                while len(got) < len(behind):
                    got += await running.sock_recv(connection, 65536)
                assert got == behind

    loop(work())


async def test_answer_without_end_is_given_up(echo: EchoServer) -> None:
    line = b"X: " + b"a" * 65_000 + b"\r\n"
    with Pieces(OK, *[line] * (MAX_HEAD_BYTES // 60_000), gap_s=0.0) as proxy:
        assert (
            await refused(proxy.url, echo.address) == "answer of a proxy of over 1 MiB"
        )


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        pytest.param("m%E2%82%AC:p", "m€:p".encode(), id="UTF-8"),
        pytest.param("m€:p", "m€:p".encode(), id="as it is"),
        pytest.param("a%3Ab:c%40d", b"a:b:c@d", id="separators"),
        pytest.param("a:%ff", b"a:\xff", id="no UTF-8"),
        pytest.param("a", b"a:", id="no password"),
        pytest.param("", b":", id="nothing"),
        pytest.param("a+b:c", b"a+b:c", id="plus"),
    ],
)
async def test_credentials_are_bytes(echo: EchoServer, user: str, shown: bytes) -> None:
    with Forwarder("http") as proxy:
        url = proxy.url.replace("//", f"//{user}@")
        await through(url, echo.address)
        assert {base64.b64decode(each) for each in proxy.shown} == {shown}


@pytest.mark.parametrize(("user", "shown"), [("m%E2%82%AC:p%C3%A9", "m€:pé")])
async def test_credentials_of_socks_are_bytes(
    echo: EchoServer, user: str, shown: str
) -> None:
    with Forwarder("socks5") as proxy:
        await through(proxy.url.replace("//", f"//{user}@"), echo.address)
        assert proxy.said == [shown] * 2


class Slow(Forwarder):
    """Sends each of its answers byte by byte."""

    def serve(self, connection: socket.socket) -> None:
        """Cut what is sent."""
        super().serve(_Cut(connection))  # type: ignore[arg-type]


class _Cut:
    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def sendall(self, data: bytes) -> None:
        """Send one by one."""
        for byte in data:
            self._inner.sendall(bytes([byte]))
            time.sleep(0.002)


@pytest.mark.parametrize("kind", ["http", "socks5", "socks5h"])
async def test_answers_byte_by_byte_are_whole(echo: EchoServer, kind: str) -> None:
    with Slow(kind) as proxy:
        url = proxy.url.replace("//", "//a:b@")
        assert await through(url, echo.address) == b"hello"


async def test_refusal_of_socks_is_said_in_gos_words(echo: EchoServer) -> None:
    with Forwarder("socks5") as proxy:
        proxy.refuse = True
        host, port = echo.address
        assert await refused(proxy.url, (host, port)) == (
            f"socks connect tcp 127.0.0.1:{proxy.address.port}->{host}:{port}:"
            " unknown error connection not allowed by ruleset"
        )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:{}", "dial tcp 127.0.0.1:{}: connect: connection refused"),
        ("https://127.0.0.1:{}", "dial tcp 127.0.0.1:{}: connect: connection refused"),
        ("socks5://127.0.0.1:{}", "dial tcp 127.0.0.1:{}: connect: connection refused"),
        ("http://proxy.invalid", "dial tcp: lookup proxy.invalid: no such host"),
        ("socks5://proxy.invalid", "dial tcp: lookup proxy.invalid: no such host"),
    ],
)
async def test_proxy_that_is_not_there_is_said_in_gos_words(
    free_port: int, url: str, why: str
) -> None:
    told = await refused(url.format(free_port), ("a.test", 1))
    assert told == "proxyconnect tcp: " + why.format(free_port)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Of a proxy that speaks TLS, and is trusted."""
    issuer = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(issuer.certificate))
    return issuer.issue("proxy", ["127.0.0.1"])


async def test_answer_over_tls_is_read_to_its_end(echo: EchoServer, pair: Pair) -> None:
    with Forwarder("https", pair) as proxy:
        proxy.pieces = bytewise(OK + b"\r\n")
        assert await through(proxy.url, echo.address) == b"hello"


async def test_proxy_with_another_certificate_is_refused(
    echo: EchoServer, pair: Pair
) -> None:
    with Forwarder("https", pair) as proxy:
        url = proxy.url.replace("127.0.0.1", "localhost")
        told = await refused(url, echo.address)
        assert told.startswith("proxyconnect tcp: tls: failed to verify certificate: ")


async def test_second_address_of_a_proxy_is_tried(
    echo: EchoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def two(self: ProxyUrl) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr(ProxyUrl, "_addresses", two)
    for kind in ("http", "socks5"):
        with Forwarder(kind) as proxy:
            url = proxy.url.replace("127.0.0.1", "proxy.test")
            assert await through(url, echo.address) == b"hello"


def test_without_password_hides_it() -> None:
    assert without_password("http://a:b@c/d") == "http://…@c/d"


async def test_proxy_that_says_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pyproxy.proxyurl.DIAL_TIMEOUT_S", 0.1)
    with Silent() as server:
        told = await refused(f"http://127.0.0.1:{server.address.port}", ("a.test", 1))
        at = f"127.0.0.1:{server.address.port}"
        assert told == f"proxyconnect tcp: dial tcp {at}: i/o timeout"


class Silent(Server):
    """Reads, and that is all."""

    def serve(self, connection: socket.socket) -> None:
        """Wait for the end."""
        connection.settimeout(scaled(10.0))
        while connection.recv(4096):
            pass
