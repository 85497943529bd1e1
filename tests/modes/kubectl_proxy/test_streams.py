"""Streams, upgrades, ends in the middle, and proxies on the way to the apiserver."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import threading

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.desk import Desk, either, hear
from tests.fakes.forwarder import Forwarder
from tests.fakes.office import Office
from tests.fakes.recorder import Recorder, Seen, pair_for, reply
from tests.support.servers import receive_exactly
from tests.support.waiting import scaled, wait_until

pytestmark = [pytest.mark.live, pytest.mark.slow]  # a process or two for each test

PLAIN = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = (
    b"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\n\r\n"
)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def head_of(client: socket.socket) -> bytes:
    """Read a head, and not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        assert byte, f"ended in {head!r}"
        head += byte
    return head


def until_end(client: socket.socket) -> bytes:
    """Read all that comes; a reset is an end, too."""
    parts = b""
    try:
        while chunk := client.recv(65536):
            parts += chunk
    except ConnectionError:
        pass
    return parts


@either
def test_headers_and_events_are_passed_on_as_they_come(
    office: Office, kind: type[Desk]
) -> None:
    # kubernetes issue 11678: nothing waits for what comes after it.
    steps = [threading.Event() for _ in range(5)]

    def watch(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(CHUNKED)
        for number, step in enumerate(steps):
            step.wait(scaled(10.0))
            connection.sendall(b"2\r\n%d\n\r\n" % number)
        connection.recv(1)

    office.upstream.answer = watch
    with office.proxy(kind) as proxy, proxy.dial() as client:
        client.sendall(PLAIN)
        assert b" 200 OK" in head_of(client)
        for number, step in enumerate(steps):
            step.set()
            assert receive_exactly(client, 7) == b"2\r\n%d\n\r\n" % number


def echo(seen: Seen, connection: socket.socket) -> None:
    """Switch protocols, greet in the same write, and send back what comes."""
    connection.sendall(SWITCHING + b"hello")
    while chunk := connection.recv(65536):
        connection.sendall(chunk)


@either
def test_upgrade_becomes_a_pipe_for_both(office: Office, kind: type[Desk]) -> None:
    office.upstream.answer = echo
    with office.proxy(kind) as proxy, proxy.dial() as client:
        client.sendall(UPGRADE)
        assert head_of(client).startswith(b"HTTP/1.1 101 ")
        assert receive_exactly(client, 5) == b"hello"
        for size in (1, 1000, 300_000):
            text = os.urandom(size)
            client.sendall(text)
            assert receive_exactly(client, size) == text
    wait_until(lambda: not office.upstream.live, 10.0, "the upstream learns of the end")


def test_upgrade_takes_what_came_with_the_request(office: Office) -> None:
    # Beyond kubectl, which may lose it.
    office.upstream.answer = echo
    with office.proxy(Desk) as proxy, proxy.dial() as client:
        client.sendall(UPGRADE + b"early")
        head_of(client)
        assert receive_exactly(client, 10) == b"helloearly"


@either
@pytest.mark.parametrize("status", ["400 Bad Request", "500 Oh"])
def test_upgrade_refused_is_no_way_in(
    office: Office, kind: type[Desk], status: str
) -> None:
    # CVE-2018-1002105: what is sent after it never reaches the upstream.
    office.upstream.answer = reply(status, b"no")
    with office.proxy(kind) as proxy, proxy.dial() as client:
        client.sendall(UPGRADE + PLAIN)
        answer = hear(client)
        assert (str(answer.status), answer.body) == (status[:3], b"no")
        assert until_end(client) == b""
    assert len(office.upstream.seen) == 1


@either
@pytest.mark.parametrize("status", ["200 OK", "300 X", "302 Found", "307 X"])
def test_upgrade_redirected_is_an_error(
    office: Office, kind: type[Desk], status: str
) -> None:
    # CVE-2018-1002102, CVE-2020-8559: nobody is sent anywhere with our credentials.
    with Recorder(pair_for(office.issuer)) as other:
        office.upstream.answer = reply(status, b"", f"Location: {other.url}/a")
        with office.proxy(kind) as proxy:
            answer = proxy.say(UPGRADE)
            text = f"invalid upgrade response: status code {status[:3]}\n"
            assert (answer.status, answer.body) == (500, text.encode())
            assert answer.get("location") is None
        assert other.seen == []


@either
def test_client_that_goes_ends_the_request_upstream(
    office: Office, kind: type[Desk]
) -> None:
    def watch(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(CHUNKED)
        connection.recv(1)

    office.upstream.answer = watch
    with office.proxy(kind) as proxy:
        with proxy.dial() as client:
            client.sendall(PLAIN)
            head_of(client)
            assert office.upstream.live == 1
        wait_until(lambda: not office.upstream.live, 10.0, "the upstream is left")


@either
@pytest.mark.parametrize(
    "begun",
    [CHUNKED + b"3\r\nabc\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc"],
    ids=["chunked", "sized"],
)
def test_response_cut_short_is_seen_to_be(
    office: Office, kind: type[Desk], begun: bytes
) -> None:
    def answer(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(begun)

    office.upstream.answer = answer
    with office.proxy(kind) as proxy, proxy.dial() as client:
        client.sendall(PLAIN)
        got = until_end(client)
        assert b"0\r\n\r\n" not in got
        assert not got.endswith(b"abcabc")


def test_apiserver_restarted_under_watches_is_used_again(office: Office) -> None:
    def watch(seen: Seen, connection: socket.socket) -> None:
        connection.sendall(CHUNKED)
        connection.recv(1)

    office.upstream.answers["/watch"] = watch
    pair = office.issuer.issue("upstream", ["127.0.0.1"])
    with office.proxy(Desk) as proxy:
        clients = [proxy.dial() for _ in range(20)]
        for client in clients:
            client.sendall(PLAIN.replace(b"/a", b"/watch"))
            head_of(client)
        port = office.upstream.address.port
        office.upstream.close()
        for client in clients:
            assert until_end(client) == b""
            client.close()
        with Recorder(pair, port=port) as again:
            wait_until(lambda: proxy.ask("/a").status == 200, 15.0)
            assert again.seen[0].get("authorization") == "Bearer sesame"


@either
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_proxy_url_is_on_the_way(office: Office, kind: type[Desk], scheme: str) -> None:
    with Forwarder(scheme) as forwarder:
        office.write(None, **{"proxy-url": forwarder.url})
        with office.proxy(kind) as proxy:
            assert proxy.ask("/a").status == 200
            assert forwarder.went == [f"127.0.0.1:{office.upstream.address.port}"]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_proxy_url_is_on_the_way_of_upgrades_too(office: Office, scheme: str) -> None:
    # Beyond kubectl, which dials past it: kubernetes issue 120318.
    office.upstream.answer = echo
    with Forwarder(scheme) as forwarder:
        office.write(None, **{"proxy-url": forwarder.url})
        with office.proxy(Desk) as proxy, proxy.dial() as client:
            client.sendall(UPGRADE)
            head_of(client)
            assert receive_exactly(client, 5) == b"hello"
            text = os.urandom(200_000)
            client.sendall(text)
            assert receive_exactly(client, len(text)) == text
        assert len(forwarder.went) == 1


@either
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_proxy_url_that_leads_nowhere_is_an_error_that_says_so(
    office: Office, free_port: int, kind: type[Desk], scheme: str
) -> None:
    office.write(None, **{"proxy-url": f"{scheme}://127.0.0.1:{free_port}"})
    with office.proxy(kind) as proxy:
        answer = proxy.ask("/a")
        assert answer.status == 500
        why = f"dial tcp 127.0.0.1:{free_port}: connect: connection refused"
        assert answer.body.decode() == f"proxyconnect tcp: {why}\n"
        assert why in proxy.stderr


async def test_websocket_of_a_library_works(office: Office) -> None:
    """Frames, in both directions, with the library's own handshake."""

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket_ = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
        await socket_.prepare(request)
        async for message in socket_:
            await socket_.send_str(f"{request.query['a']} {message.data}")
        return socket_

    app = web.Application()
    app.router.add_get("/ws", talk)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = pair_for(office.issuer)
    context.load_cert_chain(pair.certificate, pair.key)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    office.write(server=f"https://127.0.0.1:{runner.addresses[0][1]}")
    with await asyncio.to_thread(office.proxy, Desk) as proxy:
        port = await asyncio.to_thread(lambda: proxy.port)
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                f"http://127.0.0.1:{port}/ws?a=b%20c", protocols=["v5.channel.k8s.io"]
            ) as client,
        ):
            assert client.protocol == "v5.channel.k8s.io"
            for text in ("one", "two", "x" * 100_000):
                await client.send_str(text)
                assert await client.receive_str() == f"b c {text}"
    await runner.cleanup()


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_curl_works_over_a_unix_socket(office: Office) -> None:
    path = office.directory / "x.sock"
    with office.proxy(Desk, f"--unix-socket={path}") as proxy:
        assert proxy.where
        done = subprocess.run(
            ["curl", "-s", "--unix-socket", str(path), "http://localhost/a?b=c"],
            capture_output=True,
            timeout=scaled(20.0),
            check=True,
        )
        assert done.stdout == b"hello"
        assert office.upstream.seen[0].target == "/a?b=c"
