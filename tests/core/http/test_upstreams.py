"""Upstream connections of HTTP: kept, found stale, replayed, refused, over TLS."""

import contextlib
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from fastpath import (
    Backend,
    ClientTls,
    Failure,
    Forward,
    Pool,
    Table,
    TableError,
    Upstream,
)
from pyproxy.sandbox.certificates import Authority
from tests.fakes.apiserver import authority, server_context
from tests.support.relay_tools import blackhole, refusing
from tests.support.servers import ScriptedServer, send_reset
from tests.support.waiting import wait_until
from tests.support.web_rig import Peer, Web

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def served(client: Peer, upstream: Peer, response: bytes = OK) -> None:
    """One exchange on connections that stand."""
    client.say(GET)
    upstream.head()
    upstream.say(response)
    assert client.sized() == ("HTTP/1.1 200 OK", b"ok")


def test_connection_used_last_is_used_first() -> None:
    with Web() as web:
        one, first = web.exchange(GET, OK)
        two = web.client(GET)
        assert first.head()[0] == "GET /x HTTP/1.1"  # idle, so nobody dials
        three = web.client(GET)
        second = web.upstreams.accept()
        second.head()
        second.say(OK)
        three.sized()
        first.say(OK)
        two.sized()
        for _ in range(3):
            served(one, first)
        assert second.silent()


@pytest.mark.parametrize("response", [CLOSING, b"HTTP/1.0 200 OK\r\n\r\nok"])
def test_connection_that_its_server_ends_is_not_kept(response: bytes) -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(response)
        upstream.close()
        client.head()
        assert client.exactly(2) == b"ok"
        other = web.client(GET)
        again = web.upstreams.accept()
        again.head()
        again.say(OK)
        assert other.sized() == ("HTTP/1.1 200 OK", b"ok")


def test_idle_connection_that_ends_is_noticed() -> None:
    with Web() as web:
        client, upstream = web.exchange(GET, OK)
        upstream.close()
        client.say(POST)  # could not be sent a second time
        again = web.upstreams.accept()
        assert again.sized() == ("POST /x HTTP/1.1", b"hi")
        again.say(OK)
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")
        assert web.stats.replayed == 0


def test_request_that_met_a_dying_connection_is_sent_again_once() -> None:
    with Web() as web:
        client, upstream = web.exchange(GET, OK)
        client.say(GET)
        upstream.head()
        upstream.close()  # after it took the request, before it answered
        again = web.upstreams.accept()
        assert again.head()[0] == "GET /x HTTP/1.1"
        again.close()  # a new one that dies is no stale one
        assert client.sized()[0] == "HTTP/1.1 502 Bad Gateway"
        wait_until(lambda: web.stats.replayed == 1)


def test_request_that_may_have_been_carried_out_is_not_sent_again() -> None:
    with Web() as web:
        client, upstream = web.exchange(GET, OK)
        client.say(POST)
        upstream.sized()
        send_reset(upstream.socket)
        assert client.sized()[0] == "HTTP/1.1 502 Bad Gateway"
        assert web.upstreams.nobody_waits()


@pytest.mark.parametrize("apart", [True, False], ids=["with the body", "at once"])
def test_connection_whose_server_says_too_much_is_not_kept(apart: bool) -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        if apart:
            upstream.say(OK[:-2])
            client.head()
            upstream.say(b"okmore")
        else:
            upstream.say(OK + b"more")
        assert upstream.ended()


def test_words_behind_a_response_are_not_the_next_one() -> None:
    # What did not fit into the last read was kept with the connection.
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 65494\r\n\r\n"
        upstream.say(head + bytes(65536 - len(head)) + evil)
        client.sized()
        client.say(GET)
        again = web.upstreams.accept()
        again.head()
        again.say(OK)
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")


@pytest.mark.parametrize(
    "garbage",
    [
        b"what?\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\n\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    ],
    ids=["no HTTP", "bare LF", "space before colon"],
)
def test_answer_that_is_no_http_is_a_bad_gateway(garbage: bytes) -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(garbage)
        assert client.sized() == (
            "HTTP/1.1 502 Bad Gateway",
            b"malformed HTTP response\n",
        )
        assert upstream.ended()


def test_head_without_an_end_is_cut_off_at_64_kib() -> None:
    with Web() as web:
        client = web.client(GET)
        peer = web.upstreams.accept()
        peer.head()
        peer.say(b"HTTP/1.1 200 OK\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            peer.say(b"X: " + b"y" * (1 << 24))
        assert client.sized()[0] == "HTTP/1.1 502 Bad Gateway"


def test_answer_that_ends_in_its_head_is_a_bad_gateway() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 200 OK\r\nConte")
        upstream.close()
        assert client.sized() == ("HTTP/1.1 502 Bad Gateway", b"unexpected EOF\n")


def test_refused_connection_is_told_in_words_that_users_know() -> None:
    with refusing() as nobody, Web(backends=[nobody]) as web:
        client = web.client(GET)
        where = f"{nobody[0]}:{nobody[1]}"
        text = f"dial tcp {where}: connect: connection refused\n"
        assert client.sized() == ("HTTP/1.1 502 Bad Gateway", text.encode())


def test_status_for_upstreams_that_fail_is_the_vips_choice() -> None:
    with refusing() as nobody:
        with Web(backends=[nobody], gateway_status=500) as web:
            assert web.client(GET).sized()[0] == "HTTP/1.1 500 Internal Server Error"


def test_silent_backend_is_given_up_in_time() -> None:
    options = {"connect_timeout_s": 0.3}
    with blackhole() as nobody, Web(backends=[nobody], pool=options) as web:
        assert web.client(GET).sized()[0] == "HTTP/1.1 504 Gateway Timeout"


def test_upstream_without_backends_is_unavailable() -> None:
    with Web(backends=[]) as web:
        first, body = web.client(GET).sized()
        assert first == "HTTP/1.1 503 Service Unavailable"
        assert body == b"no backend is usable\n"


def test_backend_that_refuses_costs_the_client_nothing() -> None:
    with refusing() as nobody:
        with Web(backends=[nobody], pool={"balance": "round-robin"}) as web:
            backends = [Backend(*nobody), Backend(*web.upstreams.address)]
            both = Pool(backends, balance="round-robin")
            web.engine.apply(Table([web.vip], [Upstream("up", both)]))
            for _ in range(4):
                client = web.client(GET)
                upstream = web.upstreams.accept()
                upstream.head()
                upstream.say(CLOSING)
                assert client.sized() == ("HTTP/1.1 200 OK", b"ok")


# ---- TLS.


def tls(issuer: Authority, name: str = "localhost") -> ClientTls:
    """Believe `issuer`, for this name."""
    return ClientTls(ca=Path(issuer.certificate).read_bytes(), server_name=name)


def secured(context: ssl.SSLContext, response: bytes) -> ScriptedServer:
    """A server that speaks TLS, and says `response` to each request."""

    def serve(connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError, AssertionError),
            context.wrap_socket(connection, server_side=True) as inner,
        ):
            peer = Peer(inner)
            while True:
                peer.head()
                peer.say(response)

    return ScriptedServer(serve)


def over_tls(web: Web, server: ScriptedServer, settings: ClientTls) -> None:
    """Put `server` behind the vip, by TLS."""
    pool = Pool([Backend(*server.address)])
    web.engine.apply(Table([web.vip], [Upstream("up", pool, settings)]))


def test_request_goes_out_by_tls_and_the_session_is_resumed(issuer: Authority) -> None:
    context = server_context(issuer.issue("server", ["localhost"]))
    with secured(context, CLOSING) as server, Web() as web:
        over_tls(web, server, tls(issuer))
        for _ in range(3):
            assert web.client(GET).sized() == ("HTTP/1.1 200 OK", b"ok")
        assert web.engine.stats().upstreams["up"].resumed == 2


@pytest.mark.parametrize("stays", [True, False], ids=["open", "closed"])
def test_body_whose_end_comes_with_it_is_ended(issuer: Authority, stays: bool) -> None:
    context = server_context(issuer.issue("server", ["localhost"]))

    def serve(connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inner = context.wrap_bio(incoming, outgoing, server_side=True)

        def until(step: Callable[[], object]) -> None:
            while True:
                try:
                    step()
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65536))
                else:
                    return

        until(inner.do_handshake)
        until(lambda: inner.read(65536))
        inner.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end")
        with contextlib.suppress(ssl.SSLWantReadError):
            inner.unwrap()
        connection.sendall(outgoing.read())  # all of it, in one segment
        if not stays:
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with ScriptedServer(serve) as server, Web() as web:
        over_tls(web, server, tls(issuer))
        for _ in range(5):
            client = web.client(GET)
            client.head()
            assert client.rest() == b"to the end"


@pytest.mark.parametrize("size", [0, 4, 200_000])
def test_body_to_the_end_that_is_cut_looks_cut(issuer: Authority, size: int) -> None:
    # A FIN without a close_notify may be anybody's.
    context = server_context(issuer.issue("server", ["localhost"]))

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inner:
            Peer(inner).head()
            inner.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(size))
            # Closed by Python without a goodbye.

    with ScriptedServer(serve) as server, Web() as web:
        over_tls(web, server, tls(issuer))
        with pytest.raises(ConnectionResetError):
            web.client(GET).rest()
        web.wait_dropped("reset_by_backend")


@pytest.mark.parametrize(
    ("names", "settings", "text"),
    [
        (["other"], "localhost", "hostname mismatch"),
        (["localhost"], "", "self-signed|unable to get local issuer|unknown authority"),
    ],
    ids=["wrong host", "unknown issuer"],
)
def test_certificate_that_is_not_believed_is_named(
    issuer: Authority, tmp_path: Path, names: list[str], settings: str, text: str
) -> None:
    stranger = authority(tmp_path)
    believed = tls(issuer) if settings else tls(stranger)
    context = server_context(issuer.issue("server", names))
    with secured(context, CLOSING) as server, Web() as web:
        over_tls(web, server, believed)
        first, body = web.client(GET).sized()
        assert first == "HTTP/1.1 502 Bad Gateway"
        assert re.search(text, body.decode())
        assert body.startswith(b"tls: ")


SORRY = Failure(503, (("Content-Type", "application/json"),), '{"why":"', '"}\n')
NEITHER = Failure(500, (("X-Upgrade", "no"),), "<", ">")


def test_failure_is_told_in_the_words_of_the_vip() -> None:
    with refusing() as nobody, Web(backends=[nobody], gateway=SORRY) as web:
        client = web.client(GET)
        first, body = client.sized()
        assert first == "HTTP/1.1 503 Service Unavailable"
        host, port = nobody
        why = f"dial tcp {host}:{port}: connect: connection refused"
        assert body == f'{{"why":"{why}"}}\n'.encode()


def test_failure_to_upgrade_is_told_in_its_own_words() -> None:
    asked = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: a\r\n\r\n"
    with refusing() as nobody:
        with Web(
            lambda _: Forward("up", upgrades=None),
            backends=[nobody],
            gateway=SORRY,
            gateway_upgrade=NEITHER,
        ) as web:
            first, body = web.client(asked).sized()
            assert first == "HTTP/1.1 500 Internal Server Error"
            assert body.startswith(b"<dial tcp")
            assert body.endswith(b">")


def test_words_around_a_failure_are_bounded_and_have_no_zero() -> None:
    for before in ("x" * 5000, "\0"):
        with pytest.raises(TableError):
            Failure(503, (), before, "")
    with pytest.raises(TableError):
        Failure(200, (), "", "")
