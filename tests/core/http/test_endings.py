"""How exchanges end: truncation looks like it, and no end takes back what was said.

Sources: RFC 9112 6.3, 8 and 9.6; part A6 of what kubectl's proxy does.
"""

import contextlib
import random
import socket
import threading

import pytest

from tests.support.waiting import wait_until
from tests.support.web_rig import Peer, Web

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
PUT = b"PUT /x HTTP/1.1\r\nHost: a\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
BIG = random.Random(3).randbytes(1_000_000)


def say_and_close(peer: Peer, data: bytes) -> threading.Thread:
    """Send more than sockets hold, and close."""

    def run() -> None:
        peer.say(data)
        peer.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("size", [0, 10, 70_000, len(BIG)])
def test_body_to_the_end_arrives_whole_and_ends_cleanly(size: int) -> None:
    # A FIN that was met behind the last bytes was forgotten.
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        sender = say_and_close(upstream, HEAD + b"\r\n" + BIG[:size])
        assert client.head()[1]["connection"] == "close"
        assert client.rest() == BIG[:size]
        sender.join()
        web.wait_dropped("closed")


CUT = {
    "sized": b"Content-Length: 1000\r\n\r\n" + b"x" * 999,
    "sized-big": b"Content-Length: 1000000\r\n\r\n" + BIG[:-1],
    "in-chunk": CHUNKED + b"5\r\nhal",
    "between-chunks": CHUNKED + b"5\r\nwhole\r\n",
    "before-the-last-line": CHUNKED + b"5\r\nwhole\r\n0\r\n",
    "in-a-trailer": CHUNKED + b"5\r\nwhole\r\n0\r\nX: 1",
}


@pytest.mark.parametrize("name", CUT)
def test_response_that_is_cut_by_a_close_looks_cut(name: str) -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        sender = say_and_close(upstream, HEAD + CUT[name])
        with pytest.raises(ConnectionResetError):
            client.rest()
        sender.join()
        web.wait_dropped("reset_by_backend")


def test_reset_behind_the_bytes_of_a_body_to_the_end_is_no_end() -> None:
    # The error of a socket is told once, and was lost when bytes came before it.
    with Web() as web:
        for number in range(1, 30):
            client = web.client(GET)
            upstream = web.upstreams.accept()
            upstream.head()
            upstream.say(HEAD + b"\r\n", BIG[:50_000])
            upstream.reset()
            with pytest.raises(ConnectionResetError):
                client.rest()
            web.wait_dropped("reset_by_backend", number)


def test_client_that_leaves_in_its_body_behind_many_bytes_is_noticed() -> None:
    with Web() as web:
        client = web.client(PUT + b"Content-Length: 1000000\r\n\r\n")
        upstream = web.upstreams.accept()
        upstream.head()
        say_and_close(client, BIG[:-1]).join()
        web.wait_dropped("reset_by_client")
        with pytest.raises(ConnectionResetError):
            upstream.exactly(len(BIG))


@pytest.mark.parametrize(
    "sent",
    [GET[:-4] + b"\r\nX: " + b"x" * 40_000, PUT + b"Content-Length: 9, 9\r\n\r\n"],
    ids=["too-long", "odd-length"],
)
def test_refusal_reaches_a_client_that_still_sends(sent: bytes) -> None:
    # A close(2) with bytes unread would be an RST, which takes the response back.
    with Web() as web:
        client = web.client(sent)
        first, headers = client.head()
        assert first.startswith("HTTP/1.1 4")
        assert headers["connection"] == "close"
        client.say(b"y" * 100_000)
        assert len(client.rest()) == int(headers["content-length"])
        client.close()
        web.wait_dropped("closed")


def test_reply_reaches_a_client_in_the_middle_of_its_body() -> None:
    with Web(lambda _: web.refuse(403)) as web:
        client = web.client(PUT + b"Content-Length: 500000\r\n\r\n")
        assert client.sized() == ("HTTP/1.1 403 Forbidden", b"no")
        client.say(b"y" * 500_000)
        assert client.rest() == b""
        client.close()
        web.wait_dropped("closed")
        assert web.upstreams.nobody_waits()


def test_early_answer_of_an_upstream_that_left_ends_the_exchange() -> None:
    # As 413 with "Connection: close"; the client waits instead of sending the rest.
    with Web() as web:
        client = web.client(PUT + b"Content-Length: 500000\r\n\r\n")
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        assert client.sized()[1] == b"no"
        upstream.close()
        assert client.rest() == b""
        client.close()
        web.wait_dropped("closed")


def test_exchange_that_closes_its_client_is_counted_once() -> None:
    with Web() as web:
        client = web.client(GET[:-2] + b"Connection: close\r\n\r\n")
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(HEAD + b"Content-Length: 2\r\n\r\nok")
        client.rest()
        client.close()
        web.wait_dropped("closed")
        assert web.stats.codes == {("GET", 200): 1}
        assert sum(web.stats.took.counts) == 1


UPGRADE = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


def test_last_bytes_of_a_tunnel_are_not_chased_by_a_reset() -> None:
    with Web() as web:
        client = web.client(UPGRADE)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(SWITCHED)
        client.head()
        upstream.end()
        assert client.rest() == b""
        client.say(BIG[:100_000])  # fits into the sockets between: nobody reads it
        client.end()
        web.wait_dropped("closed")
        assert upstream.rest() == BIG[:100_000]


def test_end_of_a_tunnel_behind_many_bytes_is_passed_on() -> None:
    with Web() as web:
        client = web.client(UPGRADE)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(SWITCHED)
        client.head()
        for sender, receiver in ((client, upstream), (upstream, client)):
            thread = threading.Thread(
                target=lambda peer=sender: (peer.say(BIG), peer.end())
            )
            thread.start()
            assert receiver.rest() == BIG
            thread.join()
        web.wait_dropped("closed")


def test_client_that_floods_requests_leaves_others_their_turn() -> None:
    def flood(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer.say(GET * 1000)

    def drain(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            while peer.socket.recv(1 << 20):
                pass

    with Web(lambda _: web.refuse(404)) as web:
        web.client(GET).sized()
        pest = web.client(GET)
        threads = [threading.Thread(target=run, args=[pest]) for run in (flood, drain)]
        for thread in threads:
            thread.start()
        wait_until(lambda: web.stats.remembered > 5000)
        for _ in range(20):
            assert web.client(GET).sized()[0] == "HTTP/1.1 404 Not Found"
        pest.socket.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
