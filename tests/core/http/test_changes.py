"""What changes while requests are under way: tables, upstreams, minds."""

import dataclasses
import socket

import pytest

from fastpath import Forward, Http, Reply, Table
from fastpath.api.policy import Question
from tests.support.relay_tools import blackhole
from tests.support.waiting import wait_until
from tests.support.web_rig import Verdict, Web

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n" + b"b" * 60_000


def get(*lines: str) -> bytes:
    """A request with these headers."""
    return "\r\n".join(["GET /x HTTP/1.1", "Host: a", *lines, "", ""]).encode()


def again(question: Question) -> Verdict:
    """What is refused is sent again with other headers."""
    return Forward("up", set=(("X-Try", str(question.refused)),), ask_on=401)


def test_key_that_is_named_anew_finds_nothing_of_before() -> None:
    # Remembered as "part 0 is admin": who has the role is not who has the name.
    def decide(question: Question) -> Verdict:
        return Reply(200 if question.header("X-Role") == "admin" else 403)

    with Web(decide, key=("x-role",), parts=("x-role", "x-name")) as web:
        client = web.client(get("X-Role: admin"))
        assert client.sized()[0] == "HTTP/1.1 200 OK"
        turned = dataclasses.replace(web.vip, http=Http(key=("x-name", "x-role")))
        web.engine.apply(Table([turned], [web.upstream]))
        client.say(get("X-Name: admin"))
        assert client.sized()[0] == "HTTP/1.1 403 Forbidden"


def test_vip_in_the_place_of_another_finds_nothing_of_before() -> None:
    with Web(lambda question: Reply(200, question.vip[1].encode())) as web:
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            vip = dataclasses.replace(web.vip, host=host)
            web.engine.apply(Table([vip], [web.upstream]))
            web.address = web.engine.address(vip)
            for _ in range(2):
                client = web.client(get("Connection: close"))
                assert client.sized()[1] == host.encode()
                client.close()
        assert len(web.asked) == 3


def test_table_that_changes_nothing_for_a_vip_leaves_what_it_remembers() -> None:
    with Web(lambda _: Reply(200)) as web:
        web.client(get()).sized()
        other = dataclasses.replace(web.vip, host="127.0.0.2")
        web.engine.apply(Table([web.vip, other], [web.changed_upstream()]))
        web.client(get()).sized()
        assert len(web.asked) == 1


def test_request_whose_vip_and_upstream_go_while_it_connects_is_answered() -> None:
    with blackhole() as hole:
        with Web(backends=[hole], pool={"connect_timeout_s": 0.3}) as web:
            client = web.client(get())
            backends = web.engine.stats
            wait_until(lambda: backends().backends[hole].active == 1, what="a dial")
            web.engine.apply(Table([], []))
            first, body = client.sized()
            assert first == "HTTP/1.1 503 Service Unavailable"
            assert body == b"this listener is going away\n"
            assert client.ended()


def test_request_sent_again_under_another_verdict_is_whole() -> None:
    refused = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    with Web(again) as web:
        client = web.client(LARGE)
        first = web.upstreams.accept()
        first.head()  # and not the body
        first.say(refused)
        second = web.upstreams.accept()
        assert second.sized() == ("PUT /x HTTP/1.1", b"b" * 60_000)
        second.say(OK)
        assert client.sized()[1] == b"ok"
        assert [question.refused for question in web.asked] == [0, 401]


def test_body_that_still_comes_goes_on_to_the_second_upstream() -> None:
    refused = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    half = len(LARGE) // 2
    with Web(again) as web:
        client = web.client(LARGE[:half])
        first = web.upstreams.accept()
        first.head()
        first.say(refused)
        second = web.upstreams.accept()
        client.say(LARGE[half:] + get())
        assert second.sized() == ("PUT /x HTTP/1.1", b"b" * 60_000)
        second.say(OK)
        assert client.sized()[1] == b"ok"
        assert second.head()[0] == "GET /x HTTP/1.1"  # what was pipelined is not lost


def test_body_too_large_to_be_kept_is_refused_as_the_upstream_says() -> None:
    size = 100_000
    head = b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Web(again) as web:
        client = web.client(head + b"%x\r\n" % size + b"b" * size)
        first = web.upstreams.accept()
        first.head()
        assert first.exactly(7 + size)[7:] == b"b" * size
        first.say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        assert client.sized()[0] == "HTTP/1.1 401 Unauthorized"
        client.say(b"\r\n0\r\n\r\n")
        assert first.exactly(7) == b"\r\n0\r\n\r\n"
        assert web.upstreams.nobody_waits()
        # Python still learns of it: the next request gets another token.
        assert [question.refused for question in web.asked] == [0, 401]
        assert web.asked[1].method == "PUT"


FORWARDED = {
    "appended": (Forward("up", forwarded_for=True), "1.1.1.1, 127.0.0.1"),
    "removed-then-appended": (
        Forward("up", forwarded_for=True, remove=("x-forwarded-for",)),
        "127.0.0.1",
    ),
    "default-is-not-for-who-says": (
        Forward("up", forwarded_for=True, default=(("X-Forwarded-For", "9.9.9.9"),)),
        "1.1.1.1, 127.0.0.1",
    ),
    "left-alone": (Forward("up"), "1.1.1.1"),
}


@pytest.mark.parametrize("name", FORWARDED)
def test_forwarded_for_comes_behind_the_other_edits(name: str) -> None:
    verdict, expected = FORWARDED[name]
    with Web(lambda _: verdict) as web:
        web.client(get("X-Forwarded-For: 1.1.1.1"))
        upstream = web.upstreams.accept()
        assert upstream.head()[1]["x-forwarded-for"] == expected
        assert upstream.names.count("x-forwarded-for") == 1


@pytest.mark.parametrize("ip", ["127.0.0.9", "127.10.99.100", "127.255.200.254"])
def test_forwarded_for_is_the_address_in_full(ip: str) -> None:
    with Web(lambda _: Forward("up", forwarded_for=True)) as web:
        with socket.create_connection(web.address, 5, (ip, 0)) as connection:
            connection.sendall(get())
            upstream = web.upstreams.accept()
            assert upstream.head()[1]["x-forwarded-for"] == ip
