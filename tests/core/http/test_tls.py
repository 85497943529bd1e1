"""TLS with clients of HTTP, with Python's `ssl` at the other end."""

import contextlib
import dataclasses
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastpath import ClientTls, Reply, ServerTls, Table, TableError, Vip
from pyproxy.sandbox.certificates import Authority, Pair
from tests.support.malloc import held_bytes, needs_malloc_that_tells
from tests.support.waiting import scaled, wait_until
from tests.support.web_rig import VIP, Decide, Peer, Web, forward

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def pem(pair: Pair) -> tuple[bytes, bytes]:
    """A certificate and its key."""
    return Path(pair.certificate).read_bytes(), Path(pair.key).read_bytes()


def localhost(issuer: Authority) -> ServerTls:
    """The certificate of `localhost`."""
    return ServerTls((pem(issuer.issue("server", ["localhost"])),))


@contextlib.contextmanager
def secured(tls: ServerTls, decide: Decide = forward, **http: Any) -> Iterator[Web]:
    """A vip that speaks TLS."""
    with Web(decide, vip={"tls": tls}, **http) as web:
        yield web


def trusting(issuer: Authority) -> ssl.SSLContext:
    """A context of clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(issuer.certificate)
    return context


@contextlib.contextmanager
def dialled(
    web: Web,
    context: ssl.SSLContext,
    name: str = "localhost",
    session: ssl.SSLSession | None = None,
) -> Iterator[Peer]:
    """A client with its handshake done."""
    with (
        socket.create_connection(web.address, scaled(5)) as plain,
        context.wrap_socket(
            plain, server_hostname=name, session=session, suppress_ragged_eofs=False
        ) as inner,
    ):
        yield Peer(inner)


@contextlib.contextmanager
def linked(issuer: Authority) -> Iterator[tuple[Web, Peer]]:
    """A vip that speaks TLS, and a client of it."""
    with (
        secured(localhost(issuer)) as web,
        dialled(web, trusting(issuer)) as client,
    ):
        yield web, client


def yes(_: object) -> Reply:
    """Answer without an upstream."""
    return Reply(200, b"yes")


def test_requests_are_answered_and_the_session_is_resumed(issuer: Authority) -> None:
    context = trusting(issuer)
    session = None
    with secured(localhost(issuer), yes) as web:
        for resumed in range(3):
            with dialled(web, context, session=session) as client:
                for _ in range(2):
                    client.say(GET)
                    assert client.sized() == ("HTTP/1.1 200 OK", b"yes")
                assert isinstance(client.socket, ssl.SSLSocket)
                session = client.socket.session
            assert web.stats.resumed == resumed
        web.wait_dropped("closed", 3)


def test_name_chooses_the_certificate(issuer: Authority) -> None:
    names = ("localhost", "other")
    pairs = tuple(pem(issuer.issue(name, [name])) for name in names)
    with secured(ServerTls(pairs), yes) as web:
        for name in names:
            with dialled(web, trusting(issuer), name) as client:
                client.say(GET)
                assert client.sized()[1] == b"yes"


def test_bodies_go_through_whole_both_ways(issuer: Authority) -> None:
    body = bytes(range(256)) * 8192
    head = b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    with linked(issuer) as (web, client):
        writer = threading.Thread(target=client.say, args=(head, body))
        writer.start()
        upstream = web.upstreams.accept()
        assert upstream.head()[0] == "PUT /x HTTP/1.1"
        got = upstream.exactly(len(body))
        writer.join()
        assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()
        echo = threading.Thread(
            target=upstream.say,
            args=(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body),
        )
        echo.start()
        assert client.sized()[1] == body
        echo.join()


def test_events_of_a_watch_come_one_by_one(issuer: Authority) -> None:
    with linked(issuer) as (web, client):
        client.say(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.head()
        for number in range(10):
            event = b"1\r\n%d\r\n" % number
            upstream.say(event)
            assert client.exactly(len(event)) == event


def test_upgrade_becomes_a_tunnel(issuer: Authority) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: x\r\n\r\n"
    with linked(issuer) as (web, client):
        client.say(GET[:-2] + upgrade)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade)
        assert client.head()[0] == "HTTP/1.1 101 Switching Protocols"
        client.say(b"ping")
        assert upstream.exactly(4) == b"ping"
        upstream.say(b"pong")
        assert client.exactly(4) == b"pong"
        upstream.end()
        assert client.rest() == b""


def test_response_that_breaks_off_does_not_end_cleanly(issuer: Authority) -> None:
    with linked(issuer) as (web, client):
        client.say(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        client.head()
        upstream.close()
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            client.rest()


def test_client_without_tls_is_told_what_is_wrong(issuer: Authority) -> None:
    with secured(localhost(issuer)) as web:
        client = web.client(GET)
        first, _ = client.head()
        assert first == "HTTP/1.0 400 Bad Request"
        assert client.rest() == b"Client sent an HTTP request to an HTTPS server.\n"
        web.wait_dropped("tls_handshake")


def test_client_that_speaks_something_else_is_counted(issuer: Authority) -> None:
    with secured(localhost(issuer)) as web:
        client = web.client(b"\x00" * 64)
        client.ended()
        web.wait_dropped("tls_handshake")
        web.client().close()
        web.wait_dropped("reset_by_client")


def test_handshake_has_a_time_limit(issuer: Authority) -> None:
    with secured(localhost(issuer), header_timeout_s=0.3) as web:
        assert web.client(b"\x16\x03\x01").ended()
        web.wait_dropped("header_timeout")


def test_idle_client_is_closed_with_an_end(issuer: Authority) -> None:
    with (
        secured(localhost(issuer), idle_timeout_s=0.3) as web,
        dialled(web, trusting(issuer)) as client,
    ):
        assert client.rest() == b""  # close_notify: `ssl` would complain of less
        web.wait_dropped("idle_timeout")


def test_client_certificate_is_required(issuer: Authority) -> None:
    tls = dataclasses.replace(
        localhost(issuer),
        client_ca=Path(issuer.certificate).read_bytes(),
        client_auth="required",
    )
    named = trusting(issuer)
    mine = issuer.issue("developer", ["developer"])
    named.load_cert_chain(mine.certificate, mine.key)
    with secured(tls, yes) as web:
        with dialled(web, named) as client:
            client.say(GET)
            assert client.sized()[1] == b"yes"
        # In TLS 1.3 the client hears of it with its first read.
        with dialled(web, trusting(issuer)) as client:
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                client.rest()
        web.wait_dropped("tls_handshake")


def test_new_certificate_is_for_new_connections(issuer: Authority) -> None:
    with secured(localhost(issuer), yes) as web, contextlib.ExitStack() as stack:
        old = stack.enter_context(dialled(web, trusting(issuer)))
        renewed = ServerTls((pem(issuer.issue("renewed", ["renewed"])),))
        vip = dataclasses.replace(web.vip, tls=renewed)
        web.engine.apply(Table([vip], [web.upstream]))
        old.say(GET)
        assert old.sized()[1] == b"yes"
        new = stack.enter_context(dialled(web, trusting(issuer), "renewed"))
        new.say(GET)
        assert new.sized()[1] == b"yes"


def test_certificate_of_no_use_changes_nothing(issuer: Authority) -> None:
    certificate, _ = pem(issuer.issue("server", ["localhost"]))
    _, key = pem(issuer.issue("other", ["other"]))
    with secured(localhost(issuer), yes) as web:
        vip = dataclasses.replace(web.vip, tls=ServerTls(((certificate, key),)))
        with pytest.raises(TableError, match="key"):
            web.engine.apply(Table([vip], [web.upstream]))
        with dialled(web, trusting(issuer)) as client:
            client.say(GET)
            assert client.sized()[1] == b"yes"


def test_tls_without_http_is_refused(issuer: Authority) -> None:
    with pytest.raises(TableError, match="TLS without HTTP"):
        Vip(*VIP[1:], "tcp", tls=localhost(issuer))


def test_drain_and_reset_reach_clients_of_tls(issuer: Authority) -> None:
    with secured(localhost(issuer)) as web, contextlib.ExitStack() as stack:
        idle = stack.enter_context(dialled(web, trusting(issuer)))
        busy = stack.enter_context(dialled(web, trusting(issuer)))
        busy.say(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        web.engine.drain()
        assert idle.rest() == b""
        web.engine.reset()
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            busy.sized()
        wait_until(lambda: web.engine.stats().relays_active == 0)


def test_silent_client_costs_no_tls(issuer: Authority) -> None:
    # Issue 11, item 3: it had been 38 KB from its accept on.
    needs_malloc_that_tells()
    with secured(localhost(issuer)) as web:
        held = [opened(web, count) for count in (0, 50, 250)]  # the first makes slabs
        assert held[2] - held[1] < 200 * 2048
        assert opened(web, 40, b"\x16") - held[2] > 40 * 10_000


def opened(web: Web, count: int, word: bytes = b"") -> int:
    """Bytes held once so many more clients are there."""
    there = web.engine.stats().relays_active + count
    for _ in range(count):
        web.client(word)
    wait_until(lambda: web.engine.stats().relays_active == there)
    if word:
        time.sleep(0.2)  # until it was read
    return held_bytes()


def test_silent_client_of_tls_is_dropped_in_time(issuer: Authority) -> None:
    with secured(localhost(issuer), header_timeout_s=0.2) as web:
        assert web.client().ended()
        web.wait_dropped("header_timeout")
        web.client().end()
        web.wait_dropped("reset_by_client")


def test_vip_is_named_where_its_tls_is_refused(issuer: Authority) -> None:
    odd = dataclasses.replace(localhost(issuer), groups="none")
    with Web() as web:
        table = Table([dataclasses.replace(web.vip, tls=odd)], [web.upstream])
        with pytest.raises(TableError, match=r"vip 127\.0\.0\.1 .*groups 'none'"):
            web.engine.apply(table)
        bad = dataclasses.replace(
            web.upstream, tls=ClientTls(verify=False, ciphers="none")
        )
        with pytest.raises(TableError, match=r"upstream up: .*ciphers 'none'"):
            web.engine.apply(Table([web.vip], [bad]))
