"""A status that Python wants to see: its response waits for what Python says."""

import threading

import pytest

from fastpath import Forward, Reply, Table
from fastpath.api.policy import Question
from tests.support.waiting import wait_until
from tests.support.web_rig import VIP, Verdict, Web

POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
REFUSED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nsent"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SAME = Forward("up", set=(("Authorization", "Bearer 1"),), ask_on=401)
OTHER = Forward("up", set=(("Authorization", "Bearer 2"),), ask_on=401)


def refused(web: Web, response: bytes = REFUSED) -> tuple:  # type: ignore[type-arg]
    """(client, upstream) of a request that the upstream has refused."""
    client = web.client(POST)
    upstream = web.upstreams.accept()
    assert upstream.sized()[0] == "POST /x HTTP/1.1"
    upstream.say(response)
    return client, upstream


@pytest.mark.parametrize("answer", [SAME, None], ids=["equal", "none"])
@pytest.mark.parametrize("ttl_s", [0.0, 60.0])
def test_refusal_goes_to_the_client_if_nothing_else_can_be_sent(
    answer: Verdict | None, ttl_s: float
) -> None:
    # Issue 11, 2: ten POSTs with a token that stays the same had become twenty.
    def decide(question: Question) -> Verdict | None:
        if question.refused and answer is None:
            web.engine.answer(question, None)
            return None
        return SAME

    with Web(decide, ttl_s=ttl_s) as web:
        client, upstream = refused(web)
        assert client.sized() == ("HTTP/1.1 401 Unauthorized", b"sent")
        assert [question.refused for question in web.asked] == [0, 401]
        client.say(POST)  # and both connections stay
        assert upstream.sized() == ("POST /x HTTP/1.1", b"hi")
        upstream.say(OK)
        assert client.sized()[1] == b"ok"
        assert web.upstreams.nobody_waits()


def test_refused_request_is_sent_once_more_with_another_token() -> None:
    with Web(lambda question: OTHER if question.refused else SAME) as web:
        client, _ = refused(web)
        second = web.upstreams.accept()
        assert second.head()[1]["authorization"] == "Bearer 2"
        assert second.exactly(2) == b"hi"
        second.say(REFUSED)  # Python is asked once, not for ever
        assert client.sized() == ("HTTP/1.1 401 Unauthorized", b"sent")
        assert len(web.asked) == 2


def test_reply_stands_in_for_the_refusal() -> None:
    with Web(lambda q: Reply(503, b"no token") if q.refused else SAME) as web:
        client, _ = refused(web)
        assert client.sized() == ("HTTP/1.1 503 Service Unavailable", b"no token")


def test_none_is_no_answer_to_what_was_not_refused() -> None:
    with Web(lambda _: None) as web:
        web.client(POST)
        with pytest.raises(ValueError, match="no response waits"):
            web.engine.answer(web.question(), None)


CHUNKED = b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_body_that_comes_while_python_thinks_follows_the_refusal() -> None:
    asked, go = threading.Event(), threading.Event()

    def decide(question: Question) -> Verdict:
        if question.refused:
            asked.set()
            go.wait(5)
        return SAME

    with Web(decide) as web:
        client, upstream = refused(web, CHUNKED + b"3\r\nabc\r\n")
        assert asked.wait(5)
        upstream.say(b"186a0\r\n" + b"d" * 100_000 + b"\r\n0\r\n\r\n")
        assert client.silent()
        go.set()
        assert client.head()[0] == "HTTP/1.1 401 Unauthorized"
        assert client.exactly(8) == b"3\r\nabc\r\n"
        assert client.exactly(7 + 100_000)[7:] == b"d" * 100_000


@pytest.mark.parametrize("piece", [1, 7, 30])
def test_refusal_that_comes_in_pieces_is_whole(piece: int) -> None:
    with Web(lambda _: SAME) as web:
        client = web.client(POST)
        upstream = web.upstreams.accept()
        upstream.head()
        for at in range(0, len(REFUSED), piece):
            upstream.say(REFUSED[at : at + piece])
        assert client.sized() == ("HTTP/1.1 401 Unauthorized", b"sent")


def test_refusal_behind_an_informational_response_is_whole() -> None:
    with Web(lambda _: SAME) as web:
        client, _ = refused(web, b"HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n" + REFUSED)
        assert client.head()[0] == "HTTP/1.1 103 Early Hints"
        assert client.sized() == ("HTTP/1.1 401 Unauthorized", b"sent")


def test_refusal_whose_upstream_has_closed_goes_to_the_client() -> None:
    def decide(question: Question) -> Verdict | None:
        return SAME if not question.refused else None

    with Web(decide) as web:
        client, upstream = refused(web)
        upstream.close()
        wait_until(lambda: len(web.asked) == 2)
        assert client.silent()
        web.engine.answer(web.asked[1], SAME)
        assert client.sized() == ("HTTP/1.1 401 Unauthorized", b"sent")


def test_refusal_is_the_answer_when_python_takes_too_long() -> None:
    def decide(question: Question) -> Verdict | None:
        return SAME if not question.refused else None

    with Web(decide, park_timeout_s=0.2) as web:
        client, _ = refused(web)
        assert client.sized() == ("HTTP/1.1 401 Unauthorized", b"sent")
        wait_until(lambda: web.engine.withdrawn() == [web.asked[1]])
        assert web.stats.unanswered == 1


def test_answer_from_before_a_forget_is_asked_for_again() -> None:
    def decide(question: Question) -> Verdict | None:
        return None if len(web.asked) == 2 else SAME

    with Web(decide) as web:
        client, _ = refused(web)
        wait_until(lambda: len(web.asked) == 2)
        web.engine.forget()
        web.engine.answer(web.asked[1], OTHER)
        assert client.sized() == ("HTTP/1.1 401 Unauthorized", b"sent")
        assert [question.refused for question in web.asked] == [0, 401, 401]


def test_refusal_goes_to_the_client_of_a_vip_that_has_gone() -> None:
    def decide(question: Question) -> Verdict | None:
        return SAME if not question.refused else None

    with Web(decide, ttl_s=0.0, park_timeout_s=0.5) as web:
        client, upstream = refused(web, OK)
        assert client.sized()[1] == b"ok"
        client.say(POST)  # on a connection that has been used before
        assert upstream.sized() == ("POST /x HTTP/1.1", b"hi")
        upstream.say(REFUSED)
        wait_until(lambda: len(web.asked) == 3)
        web.engine.apply(Table([], [web.upstream]))
        web.engine.answer(web.asked[2], OTHER)  # of no vip that Python knows
        assert client.sized() == ("HTTP/1.1 401 Unauthorized", b"sent")


def test_client_that_leaves_ends_both_sides() -> None:
    def decide(question: Question) -> Verdict | None:
        return SAME if not question.refused else None

    with Web(decide) as web:
        client, upstream = refused(web)
        wait_until(lambda: len(web.asked) == 2)
        client.close()
        assert upstream.ended()
        wait_until(lambda: web.engine.stats().vips[VIP].active == 0)
