"""HTTP vips and upstreams in other places: unix sockets; by certificate; in crowds."""

import contextlib
import dataclasses
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath import Backend, ClientTls, Http, Pool, Reply, Table, Upstream, Vip
from pyproxy.sandbox.certificates import Authority
from tests.support.servers import ScriptedServer
from tests.support.waiting import scaled, wait_until
from tests.support.web_rig import Peer, Web

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_client_comes_by_a_unix_socket(tmp_path: Path) -> None:
    with Web(lambda _: Reply(200, b"yes")) as web:
        place = f"unix:{tmp_path}/vip"
        vip = Vip(place, 0, "tcp", http=Http())
        web.engine.apply(Table([web.vip, vip], [web.upstream]))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{tmp_path}/vip")
            client = Peer(connection)
            for _ in range(2):
                client.say(GET)
                assert client.sized() == ("HTTP/1.1 200 OK", b"yes")
        assert web.asked[0].vip == ("tcp", place, 0)
        assert web.asked[0].source == ""
        wait_until(
            lambda: web.engine.stats().vips["tcp", place, 0].closed["closed"] == 1
        )


def test_request_goes_to_a_unix_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/up")
        listener.listen()
        listener.settimeout(scaled(5))
        with Web(backends=[(f"unix:{tmp_path}/up", 1)]) as web:
            client = web.client(GET)
            upstream = Peer(listener.accept()[0])
            with contextlib.closing(upstream):
                for _ in range(2):  # the connection is kept
                    assert upstream.head()[0] == "GET /x HTTP/1.1"
                    upstream.say(OK)
                    assert client.sized()[1] == b"ok"
                    client.say(GET)


def test_unix_socket_that_is_not_there_is_a_bad_gateway(tmp_path: Path) -> None:
    with Web(backends=[(f"unix:{tmp_path}/up", 1)]) as web:
        first, body = web.client(GET).sized()
        assert first == "HTTP/1.1 502 Bad Gateway"
        assert b"no such file or directory" in body


class Speechless:
    """An upstream on a unix socket that knows no TLS, where that is spoken."""

    def __init__(self, web: Web, listener: socket.socket) -> None:
        self.web = web
        self.listener = listener

    def told(self, said: bytes) -> bytes:
        """Return what the client reads when the upstream says that, and leaves."""
        with contextlib.closing(self.web.client(GET)) as client:
            with self.listener.accept()[0] as upstream:
                assert upstream.recv(65536)[:1] == b"\x16"
                upstream.sendall(said)
            first, body = client.sized()
        assert first == "HTTP/1.1 502 Bad Gateway"
        return body


@pytest.fixture
def speechless(tmp_path: Path, issuer: Authority) -> Iterator[Speechless]:
    tls = ClientTls(ca=Path(issuer.certificate).read_bytes(), server_name="localhost")
    with socket.socket(socket.AF_UNIX) as listener, Web() as web:
        listener.bind(f"{tmp_path}/up")
        listener.listen()
        listener.settimeout(scaled(5))
        pool = Pool([Backend(f"unix:{tmp_path}/up", 1)])
        web.engine.apply(Table([web.vip], [Upstream("up", pool, tls)]))
        yield Speechless(web, listener)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"proxyconnect tcp: refused", rb"proxyconnect tcp: refused\n"),
        (b"no way\r\nat all", rb"no way\n"),
        (b" " + b"~" * 10_000, rb" ~{200,255}\n"),
        (b"\x15\x03\x03\x00\x02\x02\x28", rb"tls: .*the server: handshake failure\n"),
        (b"\x80letters", rb"tls: .*\(the server does not speak TLS\)\n"),
        (b"", rb"tls: .*the server cut the connection\n"),
    ],
)
def test_unix_socket_may_say_why_there_is_no_handshake(
    speechless: Speechless, said: bytes, told: bytes
) -> None:
    assert re.fullmatch(told, speechless.told(said))


@given(st.binary(max_size=400) | st.from_regex(rb"[ -~]{1,300}[^ -~]?", fullmatch=True))
def what_is_said_is_told(speechless: Speechless, said: bytes) -> None:
    told = speechless.told(said)
    letters = re.match(rb"[ -~]{1,255}", said)
    if letters:
        assert told == letters[0] + b"\n"
    else:
        assert told.startswith(b"tls: ")


@pytest.mark.hypothesis
def test_whatever_is_said_in_place_of_a_handshake_is_told_as_far_as_it_is_text(
    speechless: Speechless,
) -> None:
    what_is_said_is_told(speechless)


# ---- By certificate.


def strict(issuer: Authority) -> ScriptedServer:
    """A server that wants a certificate of its clients, and tells which it got."""
    pair = issuer.issue("server", ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.load_verify_locations(issuer.certificate)
    context.verify_mode = ssl.CERT_REQUIRED

    def serve(connection: socket.socket) -> None:
        with (
            contextlib.suppress(OSError, AssertionError),
            context.wrap_socket(connection, server_side=True) as inner,
        ):
            peer = Peer(inner)
            certificate = inner.getpeercert()
            assert certificate
            subject = str(dict(part[0] for part in certificate["subject"]))  # type: ignore[misc]
            while True:
                peer.head()
                size = b"Content-Length: %d" % len(subject)
                peer.say(b"HTTP/1.1 200 OK\r\n" + size + b"\r\n\r\n" + subject.encode())

    return ScriptedServer(serve)


def test_upstream_sees_the_certificate_of_its_client(issuer: Authority) -> None:
    mine = issuer.issue("developer", ["developer"])
    nameless = ClientTls(
        ca=Path(issuer.certificate).read_bytes(), server_name="localhost"
    )
    named = dataclasses.replace(
        nameless,
        certificate=Path(mine.certificate).read_bytes(),
        key=Path(mine.key).read_bytes(),
    )
    with strict(issuer) as server, Web() as web:
        pool = Pool([Backend(*server.address)])
        web.engine.apply(Table([web.vip], [Upstream("up", pool, nameless)]))
        assert web.client(GET).sized()[0] == "HTTP/1.1 502 Bad Gateway"
        web.engine.apply(Table([web.vip], [Upstream("up", pool, named)]))
        for _ in range(2):
            first, body = web.client(GET).sized()
            assert first == "HTTP/1.1 200 OK"
            assert b"developer" in body


# ---- Crowds.


@pytest.mark.crowd
def test_a_thousand_clients_are_served_and_leave_nothing() -> None:
    with Web(lambda _: Reply(200, b"yes"), workers=2) as web:
        clients = [web.client(GET) for _ in range(1000)]
        for _ in range(3):
            for client in clients:
                assert client.sized() == ("HTTP/1.1 200 OK", b"yes")
                client.say(GET)
        assert web.engine.stats().relays_active == 1000
        for client in clients:
            client.close()
        wait_until(lambda: web.engine.stats().relays_active == 0)
        # The first of each worker asked, and those that came before the answer.
        assert web.stats.remembered >= 3000 - 2 - web.stats.asked
