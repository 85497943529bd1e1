"""Verdicts with a quota: what one user may have at a time, and a second."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastpath import (
    Backend,
    Failure,
    Forward,
    Pool,
    Quota,
    ServerTls,
    Table,
    Upstream,
)
from fastpath.api.policy import Question
from pyproxy.sandbox.certificates import Authority
from tests.support.waiting import wait_until
from tests.support.web_rig import Peer, Upstreams, Verdict, Web

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCH = b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
TOO_MANY = "HTTP/1.1 429 Too Many Requests"


def of(user: str, *more: str, path: str = "/") -> bytes:
    """A request of a user."""
    lines = [f"GET {path} HTTP/1.1", "Host: a", f"X-User: {user}", *more, "", ""]
    return "\r\n".join(lines).encode()


def upgrade(user: str) -> bytes:
    """A request that becomes a tunnel."""
    return of(user, "Connection: upgrade", "Upgrade: x")


class Limits:
    """A policy: by user, limits that tests may change."""

    def __init__(self, concurrent: int = 0, bytes_per_s: int = 0) -> None:
        self.concurrent, self.bytes_per_s = concurrent, bytes_per_s

    def __call__(self, question: Question) -> Verdict:
        user = question.header("x-user") or ""
        if user == "free":
            return Forward("up", upgrades=None)
        limits = Quota(user, self.concurrent, self.bytes_per_s)
        return Forward("up", upgrades=None, quota=limits)


@contextlib.contextmanager
def limited(**more: int) -> Iterator[tuple[Web, Limits]]:
    """A vip with limits for each user."""
    limits = Limits(**more)
    parts = (":path", "x-user", ":upgrade")
    with Web(limits, key=parts, parts=parts) as web:
        yield web, limits


# ---- How many at a time.


def test_request_beyond_the_limit_is_refused_and_others_are_not() -> None:
    with limited(concurrent=2) as (web, _):
        held = [web.client(of("ann", path=f"/{n}")) for n in range(2)]
        upstreams = [web.upstreams.accept() for _ in held]
        for upstream in upstreams:
            upstream.head()
        third = web.client(of("ann", path="/2"))  # by another verdict, the same quota
        first, headers = third.head()
        assert first == TOO_MANY
        assert b"Too many requests" in third.exactly(int(headers["content-length"]))
        other = web.client(of("bob"))
        another = web.upstreams.accept()
        another.head()
        another.say(OK)
        assert other.sized()[1] == b"ok"
        upstreams[0].say(OK)
        assert held[0].sized()[1] == b"ok"
        third.say(of("ann"))  # the connection stays, and there is a place now
        upstreams[0].head()
        upstreams[0].say(OK)
        assert third.sized()[1] == b"ok"
        wait_until(lambda: web.stats.codes.get(("GET", 429)) == 1)
        assert web.stats.limited == 1


def test_tunnel_has_its_place_until_it_ends() -> None:
    with limited(concurrent=1) as (web, _):
        client = web.client(upgrade("ann"))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(SWITCH)
        assert client.head()[0].startswith("HTTP/1.1 101")
        assert web.client(upgrade("ann")).head()[0] == TOO_MANY
        assert web.client(of("ann")).head()[0] == TOO_MANY
        client.reset()
        web.wait_dropped("reset_by_client")
        again = web.client(of("ann"))
        web.upstreams.accept().head()
        assert again.silent()


@pytest.mark.parametrize("end", ["client", "upstream", "none"])
def test_place_is_given_back_however_a_request_ends(end: str) -> None:
    with limited(concurrent=1) as (web, _):
        for _ in range(3):
            client = web.client(of("ann", path="/x"))
            upstream = web.upstreams.accept()
            upstream.head()
            if end == "client":
                client.close()
                assert upstream.ended()
            elif end == "upstream":
                upstream.say(b"what?\r\n\r\n")
                assert client.sized()[0] == "HTTP/1.1 502 Bad Gateway"
            else:
                upstream.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                upstream.close()
                client.rest()
        assert web.stats.limited == 0


def test_refusal_is_told_in_the_words_of_the_vip() -> None:
    words = Failure(
        429,
        (("Retry-After", "1"), ("Content-Type", "application/json")),
        '{"message":"',
        '"}',
    )
    decide = Limits(concurrent=1)
    with Web(decide, key=("x-user",), parts=("x-user",), too_many=words) as web:
        web.client(of("ann"))
        web.upstreams.accept().head()
        client = web.client(of("ann"))
        first, headers = client.head()
        assert (first, headers["retry-after"]) == (TOO_MANY, "1")
        said = json.loads(client.exactly(int(headers["content-length"])))
        assert said == {"message": "Too many requests, please try again later."}


def test_limits_that_were_said_last_hold() -> None:
    with limited(concurrent=1) as (web, limits):
        web.client(of("ann"))
        web.upstreams.accept().head()
        assert web.client(of("ann")).head()[0] == TOO_MANY
        limits.concurrent = 2
        web.engine.forget()
        second = web.client(of("ann"))
        web.upstreams.accept().head()
        assert second.silent()
        assert web.client(of("ann")).head()[0] == TOO_MANY


def test_places_are_counted_over_all_workers() -> None:
    limits = Limits(concurrent=4)
    parts = ("x-user",)
    with Web(limits, key=parts, parts=parts, workers=3) as web:
        clients = [web.client(of("ann")) for _ in range(12)]
        for _ in range(4):
            web.upstreams.accept().head()
        assert web.upstreams.nobody_waits()
        wait_until(lambda: web.stats.limited == 8)
        refused = sum(not client.silent() for client in clients)
        assert refused == 8


def test_names_of_users_who_have_left_are_forgotten() -> None:
    def decide(question: Question) -> Verdict:
        return Forward("up", quota=Quota(question.header("x-user") or "", 1))

    with Web(decide, ttl_s=0.0) as web:
        held = web.client(of("held"))
        web.upstreams.accept().head()
        client = web.client()
        client.say(of("first"))
        upstream = web.upstreams.accept()
        for number in range(1100):
            upstream.head()
            upstream.say(OK)
            client.sized()
            client.say(of(f"user{number}"))
        assert web.engine.stats().verdicts.quotas < 200
        assert web.client(of("held")).head()[0] == TOO_MANY  # not that of who is here
        assert held.silent()


# ---- How many bytes a second.

RATE = 400_000
SIZE = 1_000_000  # the first second's worth goes at once; the rest takes 1.5 s
TAKES_S = (SIZE - RATE - 65_536) / RATE


def timed_rest(client: Peer, size: int) -> float:
    """Read so many bytes; return how long that took."""
    began = time.monotonic()
    assert len(client.exactly(size)) == size
    return time.monotonic() - began


def answer_at_length(upstream: Peer, size: int = SIZE) -> threading.Thread:
    """Say a long answer, as fast as it is taken."""
    said = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    said = said % size + bytes(size)

    def say() -> None:
        with contextlib.suppress(OSError):
            upstream.say(said)

    thread = threading.Thread(target=say)
    thread.start()
    return thread


def test_download_keeps_to_the_rate_and_others_do_not_wait_for_it() -> None:
    with limited(bytes_per_s=RATE) as (web, _):
        client = web.client(of("ann"))
        saying = answer_at_length(web.upstreams.accept())
        client.head()
        took: list[float] = []
        reading = threading.Thread(target=lambda: took.append(timed_rest(client, SIZE)))
        reading.start()
        wait_until(lambda: web.stats.paused > 0)
        while reading.is_alive():  # of others, on the same worker
            other = web.client(of("free"))
            upstream = web.upstreams.accept()
            answer_at_length(upstream, 300_000).join()
            assert len(other.sized()[1]) == 300_000
            upstream.close()
            other.close()
        saying.join()
        assert took[0] >= TAKES_S
        assert web.stats.paused > 1


def test_upload_keeps_to_the_rate() -> None:
    with limited(bytes_per_s=RATE) as (web, _):
        head = of("ann").replace(b"GET", b"PUT")
        head = head.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % SIZE)
        client = web.client(head)
        upstream = web.upstreams.accept()
        upstream.head()
        sending = threading.Thread(target=client.say, args=(bytes(SIZE),))
        sending.start()
        assert timed_rest(upstream, SIZE) >= TAKES_S
        sending.join()
        upstream.say(OK)
        assert client.sized()[1] == b"ok"


def test_rate_is_that_of_all_requests_of_a_user_together() -> None:
    with limited(bytes_per_s=RATE) as (web, _):
        clients = [web.client(of("ann", path=f"/{n}")) for n in range(4)]
        threads = [answer_at_length(web.upstreams.accept(), SIZE // 4) for _ in clients]
        began = time.monotonic()
        for client in clients:
            assert len(client.sized()[1]) == SIZE // 4
        # Each may read one time more than there was room for.
        assert time.monotonic() - began >= TAKES_S - 4 * 16_384 / RATE
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("secured", [False, True], ids=["spliced", "TLS"])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_tunnel_keeps_to_the_rate(issuer: Authority, secured: bool, up: bool) -> None:
    tls = None
    if secured:
        pair = issuer.issue("server", ["127.0.0.1"])
        read = [Path(each).read_bytes() for each in (pair.certificate, pair.key)]
        tls = ServerTls(certificates=((read[0], read[1]),))
    limits = Limits(bytes_per_s=RATE)
    with Web(limits, parts=("x-user",), key=("x-user",), vip={"tls": tls}) as web:
        client = tls_client(web, issuer) if secured else web.client()
        client.say(upgrade("ann"))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(SWITCH)
        client.head()
        source, target = (client, upstream) if up else (upstream, client)
        sending = threading.Thread(target=source.say, args=(bytes(SIZE),))
        sending.start()
        assert timed_rest(target, SIZE) >= TAKES_S
        sending.join()
        target.say(b"back")
        assert source.exactly(4) == b"back"
        client.close()


def tls_client(web: Web, issuer: Authority) -> Peer:
    """A client that speaks TLS."""
    context = ssl.create_default_context(cafile=str(issuer.certificate))
    plain = socket.create_connection(web.address, 10)
    return Peer(context.wrap_socket(plain, server_hostname="127.0.0.1"))


def test_pause_is_no_stall() -> None:
    limits = Limits(bytes_per_s=RATE)
    with Web(limits, parts=("x-user",), key=("x-user",), stall_timeout_s=0.4) as web:
        client = web.client(of("ann"))
        saying = answer_at_length(web.upstreams.accept(), 3 * RATE)
        assert len(client.sized()[1]) == 3 * RATE
        saying.join()


def test_client_that_leaves_in_a_pause_is_noticed() -> None:
    with limited(concurrent=1, bytes_per_s=RATE) as (web, _):
        client = web.client(of("ann"))
        upstream = web.upstreams.accept()
        saying = answer_at_length(upstream)
        client.head()
        wait_until(lambda: web.stats.paused > 0)
        client.reset()
        saying.join()
        assert upstream.ended()
        web.client(of("ann"))
        web.upstreams.accept().head()  # there is a place again


def test_upstream_that_breaks_off_in_a_pause_is_noticed_behind_it() -> None:
    with limited(concurrent=1, bytes_per_s=RATE) as (web, _):
        client = web.client(of("ann"))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(
            b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(SIZE)
        )
        upstream.reset()
        with pytest.raises(ConnectionResetError):
            client.rest()
        web.wait_dropped("reset_by_backend")


def test_quota_outlives_its_vip_and_the_engine_may_close_in_a_pause() -> None:
    with limited(bytes_per_s=RATE) as (web, _):
        client = web.client(of("ann"))
        saying = answer_at_length(web.upstreams.accept())
        client.head()
        wait_until(lambda: web.stats.paused > 0)
        web.engine.forget()
        web.engine.apply(Table([], [Upstream("up", Pool([Backend(*AT)]))]))
        assert len(client.exactly(SIZE // 2)) == SIZE // 2
    saying.join()


AT = ("127.0.0.1", 9)


def test_limits_of_a_rate_that_are_lifted_end_the_pause() -> None:
    with limited(bytes_per_s=1000) as (web, limits):
        client = web.client(of("ann"))
        saying = answer_at_length(web.upstreams.accept(), 500_000)
        client.head()
        wait_until(lambda: web.stats.paused > 0)
        limits.bytes_per_s = 0
        web.engine.forget()
        other = web.client(of("ann"))
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(OK)
        other.sized()
        assert len(client.exactly(500_000)) == 500_000  # not in 500 s
        saying.join()


def test_many_users_over_their_rates_do_not_keep_a_worker_busy() -> None:
    others = Upstreams()
    with contextlib.closing(others), limited(bytes_per_s=1000) as (web, _):
        sayings = []
        for number in range(20):
            web.client(of(f"user{number}"))
            sayings.append(answer_at_length(web.upstreams.accept(), 10_000_000))
        wait_until(lambda: web.stats.paused >= 20)
        before = web.engine.stats().workers[0].turns
        time.sleep(0.5)
        assert web.engine.stats().workers[0].turns - before < 500
    for saying in sayings:
        saying.join()
