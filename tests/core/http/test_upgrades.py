"""Upgrades through the core: tunnels, and the rule that protects against false ones.

Sources: RFC 9110 7.8; CVE-2018-1002105 and CVE-2020-8559 (facts B15); facts A7.
"""

import socket
import threading

import pytest

from fastpath import Forward
from tests.support.servers import send_reset
from tests.support.web_rig import Peer, Web

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
ASK = (
    b"GET /exec HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
)
YES = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n"
)


def upgraded(web: Web) -> tuple[Peer, Peer]:
    """Both ends of a tunnel."""
    client = web.client(ASK)
    upstream = web.upstreams.accept()
    first, headers = upstream.head()
    assert first == "GET /exec HTTP/1.1"
    assert headers["connection"].lower() == "upgrade"
    assert headers["upgrade"] == "websocket"
    assert headers["sec-websocket-key"] == "x"
    upstream.say(YES)
    first, headers = client.head()
    assert first == "HTTP/1.1 101 Switching Protocols"
    assert headers["upgrade"] == "websocket"
    assert headers["connection"] == "Upgrade"
    return client, upstream


def test_bytes_go_both_ways_as_they_are() -> None:
    with Web() as web:
        client, upstream = upgraded(web)
        client.say(b"\x81\x00 not HTTP \r\n\r\n")
        assert upstream.exactly(16) == b"\x81\x00 not HTTP \r\n\r\n"
        upstream.say(b"\x00\xff")
        assert client.exactly(2) == b"\x00\xff"


def test_each_direction_ends_for_itself() -> None:
    with Web() as web:
        client, upstream = upgraded(web)
        client.socket.shutdown(socket.SHUT_WR)
        assert upstream.rest() == b""
        upstream.say(b"still here")
        assert client.exactly(10) == b"still here"
        upstream.close()
        assert client.rest() == b""
        web.wait_dropped("closed")


def test_reset_of_one_side_ends_the_other() -> None:
    with Web() as web:
        client, upstream = upgraded(web)
        send_reset(upstream.socket)
        with pytest.raises(ConnectionResetError):
            client.rest()
        web.wait_dropped("reset_by_backend")


def test_megabytes_go_through_both_ways_at_once() -> None:
    data = bytes(range(256)) * (1 << 14)  # 4 MiB
    got: list[bytes] = []
    with Web() as web:
        client, upstream = upgraded(web)
        threads = [
            threading.Thread(target=client.say, args=(data,)),
            threading.Thread(target=upstream.say, args=(data,)),
            threading.Thread(target=lambda: got.append(upstream.exactly(len(data)))),
        ]
        for thread in threads:
            thread.start()
        assert client.exactly(len(data)) == data
        for thread in threads:
            thread.join()
        assert got == [data]


def spliced(web: Web) -> int:
    """Bytes that passed by splice(2)."""
    return sum(worker.bytes_spliced for worker in web.engine.stats().workers)


def stream(source: Peer, target: Peer, data: bytes) -> None:
    """Send `data` and see it arrive."""
    sender = threading.Thread(target=source.say, args=(data,))
    sender.start()
    assert target.exactly(len(data)) == data
    sender.join()


def test_stream_of_a_plain_tunnel_is_spliced_and_messages_are_copied() -> None:
    data = bytes(range(256)) * (1 << 16)  # 16 MiB
    with Web() as web:
        client, upstream = upgraded(web)
        # Not all of it: on a busy machine reads are small, and those are copied.
        stream(upstream, client, data)
        assert spliced(web) > len(data) // 8
        before = spliced(web)
        client.say(b"small")
        assert upstream.exactly(5) == b"small"
        assert spliced(web) == before
        stream(client, upstream, data)
        assert spliced(web) > before + len(data) // 8


def test_urgent_mark_amid_a_spliced_tunnel_holds_nothing_back() -> None:
    # splice(2) says EAGAIN at the mark for ever: the poller has to tell of it.
    data = bytes(range(256)) * (1 << 15)  # 8 MiB
    with Web() as web:
        client, upstream = upgraded(web)
        stream(upstream, client, data)
        upstream.socket.send(b"!", socket.MSG_OOB)
        stream(upstream, client, data)


def test_end_and_reset_of_a_spliced_tunnel_are_seen() -> None:
    data = bytes(range(256)) * (1 << 15)
    with Web() as web:
        client, upstream = upgraded(web)
        stream(upstream, client, data)
        upstream.socket.shutdown(socket.SHUT_WR)
        assert client.rest() == b""
        client.say(b"still here")
        assert upstream.exactly(10) == b"still here"
        send_reset(client.socket)
        assert upstream.ended()
        web.wait_dropped("reset_by_client")


def test_what_came_behind_the_request_or_the_101_is_of_the_tunnel() -> None:
    with Web() as web:
        client = web.client(ASK + b"early")
        upstream = web.upstreams.accept()
        upstream.head()
        assert upstream.silent()  # not before the upgrade was accepted
        upstream.say(YES + b"first")
        client.head()
        assert client.exactly(5) == b"first"
        assert upstream.exactly(5) == b"early"


@pytest.mark.parametrize("status", ["400 Bad Request", "403 No", "500 Oops"])
def test_refused_upgrade_is_relayed_and_nothing_more_gets_through(status: str) -> None:
    # CVE-2018-1002105: the connection behind a refused upgrade was a raw tunnel.
    with Web() as web:
        client = web.client(ASK + GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno".encode())
        assert client.sized() == (f"HTTP/1.1 {status}", b"no")
        assert client.ended()
        assert upstream.ended()
        assert web.upstreams.nobody_waits()


@pytest.mark.parametrize("status", [200, 204, 302, 307])
def test_upgrade_answered_otherwise_is_an_error_and_no_redirect(status: int) -> None:
    # CVE-2020-8559: a redirect in answer to an upgrade must reach nobody.
    with Web(gateway_status=500) as web:
        client = web.client(ASK)
        upstream = web.upstreams.accept()
        upstream.head()
        to = b"Location: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        upstream.say(b"HTTP/1.1 %d X\r\n" % status + to)
        first, body = client.sized()
        assert first == "HTTP/1.1 500 Internal Server Error"
        assert body == b"invalid upgrade response: status code %d\n" % status
        assert upstream.ended()


def test_101_that_nobody_asked_for_is_an_error() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(YES)
        assert client.sized()[0] == "HTTP/1.1 502 Bad Gateway"


@pytest.mark.parametrize("allowed", [(), ("spdy/3.1",)])
def test_upgrade_that_is_not_allowed_is_an_ordinary_request(
    allowed: tuple[str, ...],
) -> None:
    with Web(lambda _: Forward("up", upgrades=allowed)) as web:
        client = web.client(ASK)
        upstream = web.upstreams.accept()
        _, headers = upstream.head()
        assert "upgrade" not in headers
        assert "connection" not in headers
        upstream.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert client.sized() == ("HTTP/1.1 200 OK", b"")


def test_upgrade_is_allowed_by_name_whatever_its_case() -> None:
    with Web(lambda _: Forward("up", upgrades=("SPDY/3.1", "WebSocket"))) as web:
        upgraded(web)
