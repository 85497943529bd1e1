"""Clients of HTTP that are slow, silent or gone; drains and resets."""

import contextlib
import dataclasses
import threading
import time

import pytest

from fastpath import Backend, Forward, Pool, Reply, Table
from fastpath.api.policy import Question
from tests.support.relay_tools import blackhole
from tests.support.waiting import wait_until
from tests.support.web_rig import VIP, Peer, Upstreams, Verdict, Web, forward

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
PUT = b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WATCH = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


def goes_on(peer: Peer, more: bytes = b"x" * 65536) -> bool:
    """Send `more`; return whether the connection is there."""
    try:
        peer.say(more)
    except (ConnectionResetError, BrokenPipeError):
        return False
    return True


def test_head_that_never_becomes_whole_is_given_up() -> None:
    with Web(header_timeout_s=0.3, idle_timeout_s=60.0) as web:
        client = web.client(GET[:-3])
        assert client.ended()
        web.wait_dropped("header_timeout")


def test_head_that_comes_byte_by_byte_gets_no_more_time_for_it() -> None:
    # Slowloris: a byte now and then must not count as progress.
    with Web(header_timeout_s=0.4) as web:
        client = web.client()
        wait_until(lambda: goes_on(client, b"x") is False)
        web.wait_dropped("header_timeout")


def test_client_that_says_nothing_is_closed_after_the_idle_time() -> None:
    with Web(header_timeout_s=60.0, idle_timeout_s=0.3) as web:
        assert web.client().ended()
        web.wait_dropped("idle_timeout")


def test_request_under_way_is_not_idle() -> None:
    with Web(idle_timeout_s=0.2, header_timeout_s=0.2) as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        other = web.client()
        assert other.ended()  # the idle time has passed, for idle clients
        upstream.say(OK)
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")


def test_question_without_an_answer_is_answered_503() -> None:
    with Web(lambda _: None, park_timeout_s=0.2) as web:
        client = web.client(GET)
        first, body = client.sized()
        assert (first.split()[1], body) == ("503", b"no decision in time\n")
        assert web.stats.unanswered == 1


@pytest.mark.parametrize("when", ["parked", "waiting", "watching"])
def test_client_that_leaves_ends_what_was_done_for_it(when: str) -> None:
    with Web((lambda _: None) if when == "parked" else forward) as web:
        client = web.client(GET)
        if when == "parked":
            wait_until(lambda: len(web.asked) == 1)
            client.close()
        else:
            upstream = web.upstreams.accept()
            upstream.head()
            if when == "watching":
                upstream.say(WATCH)
                client.head()
            client.close()
            assert upstream.ended()
        web.wait_dropped("reset_by_client")
        assert web.engine.stats().relays_active == 0


def test_client_that_leaves_ends_the_dial_for_it() -> None:
    with blackhole() as hole, Web(backends=[hole]) as web:
        client = web.client(GET)
        wait_until(lambda: web.engine.stats().backends[hole].active == 1)
        client.close()
        web.wait_dropped("reset_by_client")
        assert web.engine.stats().backends[hole].active == 0


def test_client_that_leaves_in_the_same_breath_is_noticed() -> None:
    # Its FIN was in the event that brought the request, and no other one came.
    def decide(question: Question) -> Verdict:
        return Forward("up") if question.path == "/watch" else Reply(200, b"yes")

    with Web(decide, key=(":path",)) as web:
        clients = [web.client(GET) for _ in range(40)]
        for client in clients:
            client.sized()
        for client in clients:
            client.say(GET.replace(b"/x", b"/watch"))
            client.close()
        web.wait_dropped("reset_by_client", len(clients))


def test_reply_reaches_a_client_that_has_ended_its_side() -> None:
    body = b"x" * (1 << 20)
    with Web(lambda _: Reply(200, body)) as web:
        client = web.client(GET)
        client.head()
        client.end()
        assert client.exactly(len(body)) == body


def test_drain_closes_idle_clients_and_lets_the_others_finish() -> None:
    with Web() as web:
        idle, upstream = web.exchange(GET, OK)
        busy = web.client(GET)
        upstream.head()
        web.engine.drain()
        assert idle.rest() == b""
        upstream.say(OK)
        assert busy.sized() == ("HTTP/1.1 200 OK", b"ok")
        assert busy.rest() == b""
        assert web.engine.stats().relays_active == 0


def test_reset_drops_clients_of_http_too() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        web.engine.reset()
        with pytest.raises(ConnectionResetError):
            client.rest()
        assert upstream.ended()
        web.wait_dropped("reset_by_admin")


@pytest.mark.parametrize("when", ["kept", "connecting", "waiting", "posted", "begun"])
def test_reset_of_a_backend_lets_go_of_its_exchanges(when: str) -> None:
    request = GET.replace(b"GET", b"POST") if when == "posted" else GET
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(contextlib.closing(Upstreams()))
        hole = stack.enter_context(blackhole())
        web = stack.enter_context(Web())
        to = hole if when == "connecting" else web.upstreams.address
        both = [Backend(*to), Backend(*other.address, tier=1)]
        upstream = dataclasses.replace(web.upstream, pool=Pool(both))
        web.engine.apply(Table([web.vip], [upstream]))
        client = web.client(request)
        if when == "connecting":
            wait_until(lambda: web.engine.stats().backends[hole].active == 1)
        else:
            peer = web.upstreams.accept()
            peer.head()
            if when == "kept":
                peer.say(OK)
                client.sized()
            elif when == "begun":
                peer.say(WATCH)
                client.head()
        web.engine.set_health(to, "dead")
        web.engine.reset(to)
        if when != "connecting":
            assert peer.ended()
        if when in ("connecting", "waiting"):
            instead = other.accept()
            assert instead.head()[0] == "GET /x HTTP/1.1"
            instead.say(OK)
            assert client.sized()[1] == b"ok"
        elif when == "posted":
            assert client.sized()[0] == "HTTP/1.1 502 Bad Gateway"
        elif when == "begun":
            with pytest.raises(ConnectionResetError):
                client.rest()
        assert web.engine.stats().backends[to].active == 0


def test_vip_that_leaves_the_table_finishes_what_it_has() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        web.engine.apply(Table([]))
        upstream.say(OK)
        assert client.sized() == ("HTTP/1.1 200 OK", b"ok")
        assert client.rest() == b""


def test_client_that_stops_reading_holds_up_its_upstream_and_nobody_else() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        client.head()
        upstream.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            upstream.say(b"x" * (1 << 28))
        spills = sum(worker.spills for worker in web.engine.stats().workers)
        assert spills <= 4
        web.exchange(GET, OK)
        assert len(client.exactly(1 << 20)) == 1 << 20  # and goes on when read again


def test_upload_that_stalls_is_given_up() -> None:
    with Web(stall_timeout_s=0.3) as web:
        client = web.client(PUT + b"12345")
        upstream = web.upstreams.accept()
        upstream.head()
        assert upstream.exactly(5) == b"12345"
        with pytest.raises(ConnectionResetError):
            client.rest()
        assert upstream.ended()
        web.wait_dropped("idle_timeout")


def test_upload_that_moves_is_not_given_up() -> None:
    with Web(stall_timeout_s=0.5) as web:
        client = web.client(PUT)
        upstream = web.upstreams.accept()
        for byte in b"1234567890":
            time.sleep(0.1)
            client.say(bytes([byte]))
        assert upstream.sized()[1] == b"1234567890"
        upstream.say(OK)
        assert client.sized()[1] == b"ok"


def test_upload_that_nobody_takes_is_given_up() -> None:
    # Neither a client that waits nor one that has left was ever let go of.
    with Web(stall_timeout_s=0.3) as web:
        client = web.client(PUT.replace(b"10", b"1000000000"))
        upstream = web.upstreams.accept()
        upstream.head()
        wait_until(lambda: goes_on(client) is False)
        web.wait_dropped("idle_timeout")


def test_upload_that_is_taken_slowly_is_not_given_up() -> None:
    size = 20_000_000
    with Web(stall_timeout_s=0.5) as web:
        client = web.client(PUT.replace(b"10", b"%d" % size))
        upstream = web.upstreams.accept()
        upstream.head()
        sender = threading.Thread(target=client.say, args=[bytes(size)])
        sender.start()
        for _ in range(10):
            time.sleep(0.1)
            upstream.exactly(size // 10)
        sender.join()
        upstream.say(OK)
        assert client.sized()[1] == b"ok"


def test_response_that_nobody_reads_is_given_up() -> None:
    with Web(stall_timeout_s=0.3) as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        upstream.say(b"HTTP/1.1 200 OK\r\n\r\n")  # to the end: a FIN would look whole
        client.head()
        wait_until(lambda: goes_on(upstream) is False)  # that it goes on saves nobody
        with pytest.raises(ConnectionResetError):
            client.rest()
        web.wait_dropped("idle_timeout")


def test_who_waits_for_the_upstream_does_not_stall() -> None:
    with Web(stall_timeout_s=0.1) as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        time.sleep(0.3)
        upstream.say(WATCH)
        time.sleep(0.3)
        upstream.say(b"0\r\n\r\n")
        client.head()
        assert client.exactly(15) == b"5\r\nhello\r\n0\r\n\r\n"


def test_reply_goes_to_a_client_that_sends_more_than_asked() -> None:
    # A close with bytes unread would be a reset that takes the answer back.
    with Web(lambda _: Reply(403, b"no")) as web:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
        client = web.client(head + b"x" * 50_000)
        assert client.sized() == ("HTTP/1.1 403 Forbidden", b"no")
        assert client.rest() == b""


def test_closed_engine_resets_its_clients() -> None:
    with Web() as web:
        client = web.client(GET)
        upstream = web.upstreams.accept()
        upstream.head()
        assert web.engine.stats().vips[VIP].active == 1
    assert client.socket.fileno() == -1
