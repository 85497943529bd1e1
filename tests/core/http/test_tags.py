"""Withdrawing verdicts by name."""

import threading

import pytest

from fastpath import Reply
from fastpath.api.policy import Question
from tests.core.http.test_verdicts import echo, request, served
from tests.support.web_rig import Verdict, Web


def by_path(question: Question) -> str:
    """The first segment is the tag."""
    return question.path.split("/")[1]


def test_forget_withdraws_what_has_the_tag_and_nothing_else() -> None:
    with Web(echo, key=(":path",), tag=by_path) as web:
        client = web.client()
        paths = [request(path) for path in ("/a/1", "/a/2", "/b/1", "/")]
        served(client, *paths, *paths)
        assert len(web.asked) == 4
        web.engine.forget("a")
        served(client, *paths, *paths)
        assert [question.aside.path for question in web.asked[4:]] == ["/a/1", "/a/2"]
        web.engine.forget("nobody")
        served(client, *paths)
        assert len(web.asked) == 6
        web.engine.forget()
        served(client, *paths)
        assert len(web.asked) == 10


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
@pytest.mark.parametrize("tag", ["a", None])
def test_answer_from_before_a_forget_of_its_tag_is_asked_for_again(
    tag: str | None, known: bool
) -> None:
    # Decided by what has been withdrawn since: it must not be used, let alone kept.
    forgotten = threading.Event()

    def decide(question: Question) -> Verdict:
        if question.path == "/a/1" and not forgotten.is_set():
            web.engine.forget(tag)
            forgotten.set()
            return Reply(200, b"old")
        return Reply(200, b"new")

    with Web(decide, key=(":path",), tag=by_path) as web:
        client = web.client()
        if known:
            served(client, request("/a/2"))
        client.say(request("/a/1"), request("/a/1"))
        assert [client.sized()[1] for _ in range(2)] == [b"new", b"new"]
        assert len(web.asked) == 2 + known


def test_answer_under_another_tag_outlives_a_forget() -> None:
    def decide(question: Question) -> Verdict:
        web.engine.forget("other")
        return Reply(200, b"yes")

    with Web(decide, key=(":path",), tag=lambda _: "mine") as web:
        served(web.client(), request("/x"))
        # A tag that nobody has used before may be one that was forgotten meanwhile.
        assert 1 <= len(web.asked) <= 2
        served(web.client(), request("/x"), request("/y"), request("/y"))
        assert len(web.asked) <= 3


@pytest.mark.slow
def test_tags_without_end_make_room_for_each_other() -> None:
    # The one that was used longest ago gives way; what it had is asked about again.
    with Web(echo, key=(":path",), tag=lambda question: question.path) as web:
        client = web.client()
        for first in range(0, 17_000, 100):
            client.say(b"".join(request(f"/{first + n}") for n in range(100)))
            for _ in range(100):
                client.sized()
        assert len(web.asked) == 17_000
        served(client, request("/16999"), request("/16000"))
        assert len(web.asked) == 17_000
        served(client, request("/0"), request("/0"))
        assert len(web.asked) == 17_001
        web.engine.forget("/16999")
        served(client, request("/16999"), request("/16998"))
        assert len(web.asked) == 17_002


@pytest.mark.parametrize("tag", ["x" * 257, 7])
def test_odd_tag_is_refused(tag: str) -> None:
    with Web(lambda _: None) as web:
        web.client(request())
        with pytest.raises((ValueError, TypeError)):
            web.engine.answer(web.question(), Reply(200), tag=tag)
