"""Requests whose connection ends before any byte of a response: sent again, or told.

Source: RFC 9112, 9.3.1 (which may be), RFC 9110, 9.2.2 (what is idempotent).
"""

import contextlib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fastpath import Backend, ClientTls, Forward, Pool, Table, Upstream
from fastpath.api.policy import Question
from pyproxy.sandbox.certificates import Authority
from tests.core.http.test_upstreams import tls
from tests.fakes.apiserver import server_context
from tests.support.dying import (
    DEATHS,
    OK,
    Serve,
    answers,
    ends_after_body,
    ends_unread,
    named,
    pool_of,
    resets_after_body,
    resets_after_head,
    resets_in_handshake,
    resets_unread,
    secured,
)
from tests.support.relay_tools import refusing
from tests.support.servers import ScriptedServer
from tests.support.waiting import wait_until
from tests.support.web_rig import Peer, Upstreams, Verdict, Web

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
REQUESTS, CLIENTS = 60, 6


def put(size: int, sent: int = -1) -> bytes:
    """A PUT whose body has `size` bytes, of which so many are sent."""
    head = b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    return head + b"p" * (size if sent < 0 else sent)


def behind(
    web: Web,
    servers: list[ScriptedServer],
    via: ClientTls | None = None,
    **more: Any,
) -> None:
    """Put servers behind the vip; the turn of each comes, unless it is ejected."""
    options: dict[str, Any] = {"balance": "round-robin", "eject_after": 0, **more}
    pool = Pool([Backend(*each.address) for each in servers], **options)
    web.engine.apply(Table([web.vip], [Upstream("up", pool, via, keepalive=0)]))


def ask_often(web: Web, request: bytes, count: int = REQUESTS) -> list[str]:
    """Send a request often, over several connections at a time; the status lines."""

    def one(_: int) -> list[str]:
        client = web.client()
        found = []
        for _ in range(count // CLIENTS):
            client.say(request)
            found.append(client.sized()[0])
        return found

    with ThreadPoolExecutor(CLIENTS) as threads:
        return [line for lines in threads.map(one, range(CLIENTS)) for line in lines]


@pytest.mark.parametrize("request_", [GET, put(30_000)], ids=["GET", "PUT"])
@pytest.mark.parametrize("death", DEATHS, ids=named)
def test_backend_that_dies_with_a_request_costs_no_client_an_error(
    death: Serve, request_: bytes
) -> None:
    with pool_of(death, answers, answers) as servers, Web() as web:
        behind(web, servers)
        said = ask_often(web, request_)
        assert set(said) == {"HTTP/1.1 200 OK"}
        dead = web.engine.stats().backends[servers[0].address]
        assert dead.connect_failures == servers[0].accepted > 0
        # One that dies at once may do so before the request is sent: a failed dial.
        early = death in (resets_unread, ends_unread)
        assert web.stats.rescued == servers[0].accepted or early
        assert web.stats.replayed == 0


@pytest.mark.parametrize("abrupt", [False, True], ids=["close_notify", "FIN"])
@pytest.mark.parametrize("death", DEATHS, ids=named)
def test_backend_that_dies_behind_tls_costs_no_client_an_error(
    issuer: Authority, death: Serve, abrupt: bool
) -> None:
    context = server_context(issuer.issue("server", ["localhost"]))
    serves = [secured(context, death, abrupt=abrupt)]
    serves += [secured(context, answers, abrupt=False)] * 2
    with pool_of(*serves) as servers, Web() as web:
        behind(web, servers, tls(issuer))
        assert set(ask_often(web, GET)) == {"HTTP/1.1 200 OK"}
        assert servers[0].accepted > 0


def test_backend_that_dies_in_a_handshake_costs_no_client_an_error(
    issuer: Authority,
) -> None:
    context = server_context(issuer.issue("server", ["localhost"]))
    healthy = secured(context, answers, abrupt=False)
    with pool_of(resets_in_handshake, healthy) as servers, Web() as web:
        behind(web, servers, tls(issuer))
        assert set(ask_often(web, GET)) == {"HTTP/1.1 200 OK"}
        assert servers[0].accepted > 0


def test_backend_that_refuses_our_certificate_late_is_no_end(
    issuer: Authority,
) -> None:
    # In TLS 1.3 the client has sent its request before it is told.
    strict = server_context(issuer.issue("server", ["localhost"]))
    strict.verify_mode = ssl.CERT_REQUIRED
    strict.load_verify_locations(issuer.certificate)
    lenient = server_context(issuer.issue("server", ["localhost"]))
    serves = [secured(each, answers, abrupt=False) for each in (strict, lenient)]
    with pool_of(*serves) as servers, Web() as web:
        behind(web, servers, tls(issuer))
        assert set(ask_often(web, GET, 24)) == {"HTTP/1.1 200 OK"}
        assert web.stats.rescued == servers[0].accepted > 0


def test_backend_that_dies_with_each_request_is_ejected() -> None:
    with pool_of(resets_after_head, answers) as servers, Web() as web:
        behind(web, servers, eject_after=3, eject_s=60.0)
        assert set(ask_often(web, GET)) == {"HTTP/1.1 200 OK"}
        dead = web.engine.stats().backends[servers[0].address]
        assert dead.ejected
        assert 3 <= servers[0].accepted < 3 + CLIENTS


def test_answer_of_any_kind_ends_a_row_of_failures() -> None:
    turns = iter("ddoddoddoddoddo")

    def serve(connection: socket.socket) -> None:
        peer = Peer(connection)
        peer.head()
        if next(turns) == "o":
            peer.say(OK)

    with pool_of(serve, answers) as servers, Web() as web:
        behind(web, servers, eject_after=3, eject_s=60.0)
        client = web.client()
        while servers[0].accepted < 12:
            client.say(GET)
            assert client.sized()[0] == "HTTP/1.1 200 OK"
        one = web.engine.stats().backends[servers[0].address]
        assert one.connect_failures > 3
        assert not one.ejected


def test_as_many_backends_are_tried_as_the_pool_dials() -> None:
    with pool_of(*[resets_after_head] * 4) as servers, Web() as web:
        behind(web, servers, connect_tries=3)
        first, body = web.client(GET).sized()
        assert first == "HTTP/1.1 502 Bad Gateway"
        assert body in (b"Connection reset by peer\n", b"connection reset by peer\n")
        wait_until(lambda: sum(each.accepted for each in servers) == 3)
        assert sorted(each.accepted for each in servers) == [0, 1, 1, 1]
        assert web.stats.rescued == 3 - 1


def test_pool_of_one_that_dies_is_told() -> None:
    with pool_of(ends_after_body) as servers, Web() as web:
        behind(web, servers)
        assert web.client(GET).sized() == ("HTTP/1.1 502 Bad Gateway", b"EOF\n")
        assert servers[0].accepted == 1


# ---- What is not sent again.


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        b"PATCH /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        b"LOCK /x HTTP/1.1\r\nHost: a\r\n\r\n",
        GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ],
    ids=["POST", "PATCH", "unknown method", "upgrade"],
)
@pytest.mark.parametrize("death", [resets_after_body, ends_after_body], ids=named)
def test_request_that_may_have_been_carried_out_is_not(
    death: Serve, request_: bytes
) -> None:
    with pool_of(death, death) as servers, Web() as web:
        behind(web, servers)
        assert web.client(request_).sized()[0] == "HTTP/1.1 502 Bad Gateway"
        assert sum(each.accepted for each in servers) == 1
        failures = [b.connect_failures for b in web.engine.stats().backends.values()]
        assert sorted(failures) == [0, 1]  # it counts all the same
        assert web.stats.rescued == 0


def test_request_whose_verdict_says_so_is_not() -> None:
    def once(_: Question) -> Verdict:
        return Forward("up", replay=False)

    with pool_of(ends_after_body, ends_after_body) as servers, Web(once) as web:
        behind(web, servers)
        assert web.client(GET).sized()[0] == "HTTP/1.1 502 Bad Gateway"
        assert sum(each.accepted for each in servers) == 1


@pytest.mark.parametrize("size", [65_536, 1_000_000])
def test_body_that_is_larger_than_what_is_kept_is_not(size: int) -> None:
    with pool_of(resets_after_body, resets_after_body) as servers, Web() as web:
        behind(web, servers)
        assert web.client(put(size)).sized()[0] == "HTTP/1.1 502 Bad Gateway"
        assert sum(each.accepted for each in servers) == 1


@pytest.mark.parametrize(
    "part",
    [b"H", b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["one byte", "half a head", "a 100"],
)
def test_request_that_was_answered_in_part_is_not(part: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        peer = Peer(connection)
        peer.head()
        peer.say(part)

    with pool_of(serve, serve) as servers, Web() as web:
        behind(web, servers)
        client = web.client(GET)
        first = client.head()[0]
        if b"100" in part:
            assert first == "HTTP/1.1 100 Continue"
            first = client.head()[0]
        assert first == "HTTP/1.1 502 Bad Gateway"
        assert sum(each.accepted for each in servers) == 1


def test_response_that_breaks_off_resets_the_client() -> None:
    def serve(connection: socket.socket) -> None:
        peer = Peer(connection)
        peer.head()
        peer.say(OK[:-1])

    with pool_of(serve, serve) as servers, Web() as web:
        behind(web, servers)
        with pytest.raises(ConnectionResetError):
            web.client(GET).rest()
        assert sum(each.accepted for each in servers) == 1


def test_address_of_a_verdict_that_dies_is_told() -> None:
    with Web(lambda _: Forward("up", address=text)) as web:
        text = "{}:{}".format(*web.upstreams.address)
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.close()
        assert client.sized() == ("HTTP/1.1 502 Bad Gateway", b"EOF\n")
        assert web.upstreams.nobody_waits()


def test_backend_that_only_takes_its_time_is_left_to_it() -> None:
    other = Upstreams()
    with contextlib.closing(other), Web(pool={"connect_timeout_s": 0.1}) as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        assert client.silent()
        assert client.silent()
        assert client.silent()
        upstream.say(OK)
        assert client.sized()[1] == b"ok"
        assert other.nobody_waits()


# ---- Bodies that still come, and both reasons in a row.


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_body_goes_on_behind_what_was_sent_again(chunked: bool) -> None:
    with Web() as web, contextlib.closing(Upstreams()) as other:
        backends = [
            Backend(*each.address, tier=t)
            for t, each in enumerate((web.upstreams, other))
        ]
        web.engine.apply(Table([web.vip], [Upstream("up", Pool(backends))]))
        parts = [b"first", b"second"]
        head = put(11, 0)
        if chunked:
            parts = [b"5\r\nfirst\r\n", b"6\r\nsecond\r\n0\r\n\r\n"]
            head = head.replace(b"Content-Length: 11", b"Transfer-Encoding: chunked")
        client = web.client(head + parts[0])
        one = web.upstreams.accept()
        one.head()
        assert one.exactly(len(parts[0])) == parts[0]
        one.reset()
        two = other.accept()
        assert two.head()[0] == "PUT /x HTTP/1.1"
        assert two.exactly(len(parts[0])) == parts[0]
        client.say(parts[1])
        assert two.exactly(len(parts[1])) == parts[1]
        two.say(OK)
        assert client.sized()[1] == b"ok"
        client.say(GET)  # in step: the next request is read as one
        two.head()
        two.say(OK)
        assert client.sized()[1] == b"ok"


def test_kept_connection_and_then_a_backend_may_die_in_a_row() -> None:
    with Web() as web, contextlib.closing(Upstreams()) as other:
        backends = [
            Backend(*each.address, tier=t)
            for t, each in enumerate((web.upstreams, other))
        ]
        web.engine.apply(Table([web.vip], [Upstream("up", Pool(backends))]))
        client, kept = web.exchange(GET, OK)
        client.say(GET)
        kept.head()
        kept.close()
        fresh = web.upstreams.accept()
        fresh.head()
        fresh.reset()
        last = other.accept()
        last.head()
        last.say(OK)
        assert client.sized()[1] == b"ok"
        assert (web.stats.replayed, web.stats.rescued) == (1, 1)


def test_dead_backend_and_one_that_refuses_may_come_in_a_row() -> None:
    with refusing() as nobody, pool_of(ends_unread, answers) as servers, Web() as web:
        first, last = servers
        tiers = [Backend(*first.address), Backend(*nobody, tier=1)]
        tiers.append(Backend(*last.address, tier=2))
        web.engine.apply(Table([web.vip], [Upstream("up", Pool(tiers))]))
        assert web.client(GET).sized() == ("HTTP/1.1 200 OK", b"ok")


def test_backend_that_is_reset_gives_its_requests_to_another() -> None:
    with Web() as web, contextlib.closing(Upstreams()) as other:
        backends = [
            Backend(*each.address, tier=t)
            for t, each in enumerate((web.upstreams, other))
        ]
        web.engine.apply(Table([web.vip], [Upstream("up", Pool(backends))]))
        client = web.client(GET)
        web.upstreams.accept().head()
        web.engine.set_health(web.upstreams.address, "dead")
        web.engine.reset(web.upstreams.address)
        two = other.accept()
        two.head()
        two.say(OK)
        assert client.sized()[1] == b"ok"
