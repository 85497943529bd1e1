"""How much of verdicts is remembered: bytes over all workers, and what makes room."""

import pytest

from fastpath import Engine, Reply
from fastpath.api.policy import Question
from tests.core.http.test_verdicts import echo, request, served
from tests.support.web_rig import Verdict, Web

MIB = 1 << 20


def fill(web: Web, first: int, count: int) -> None:
    """Ask about so many paths."""
    client = web.client()
    for number in range(first, first + count, 50):
        client.say(b"".join(request(f"/{number + n}") for n in range(50)))
        for _ in range(50):
            client.sized()


def test_bytes_of_all_workers_stay_within_their_bound() -> None:
    with Web(echo, key=(":path",), workers=3, engine={"verdict_bytes": MIB}) as web:
        for turn in range(6):
            fill(web, turn * 1000, 1000)
            assert web.engine.stats().verdicts.bytes <= MIB
        stats = web.engine.stats().verdicts
        assert stats.entries > 500
        assert stats.evicted + stats.unkept + stats.entries == 6000


def test_large_replies_are_counted_once_for_all_that_have_them() -> None:
    body = b"x" * 100_000

    def decide(question: Question) -> Verdict:
        return Reply(200, body, (("X-For", question.path.split("/")[1]),))

    with Web(decide, key=(":path",), engine={"verdict_bytes": MIB}) as web:
        before = web.engine.stats().verdicts.bytes
        assert before == 0
        client = web.client()
        served(client, *[request(f"/{n}/") for n in range(40)])
        stats = web.engine.stats().verdicts
        assert 5 <= stats.entries <= 10
        assert stats.bytes <= MIB
        assert stats.evicted == 40 - stats.entries
        served(client, *[request("/39/")] * 3)
        assert len(web.asked) == 40


def test_without_bytes_nothing_is_remembered() -> None:
    with Web(echo, key=(":path",), engine={"verdict_bytes": 0}) as web:
        served(web.client(), request(), request())
        assert len(web.asked) == 2
        assert web.engine.stats().verdicts == (0, 0, 0, 2, 0)


def test_bytes_of_what_was_forgotten_come_back() -> None:
    with Web(echo, key=(":path",), engine={"verdict_bytes": MIB}) as web:
        fill(web, 0, 1000)
        web.engine.forget()
        fill(web, 1000, 1000)
        stats = web.engine.stats().verdicts
        # By chance, which the secret of the hash makes, one of 512 sets may be full.
        assert stats.evicted < 10
        assert stats.entries < 2000  # what was void went as others came
        fill(web, 1000, 1000)
        assert len(web.asked) == 2000


def test_worker_that_has_nothing_gets_room_from_one_that_has_all() -> None:
    with Web(echo, key=(":path",), workers=2, engine={"verdict_bytes": MIB}) as web:
        fill(web, 0, 8000)  # one client, one worker
        remembered = web.stats.remembered
        for _ in range(20):  # some meet the other one
            served(web.client(), *[request("/7999")] * 3)
        assert web.stats.remembered - remembered > 50
        assert web.engine.stats().verdicts.bytes <= MIB


@pytest.mark.parametrize("size", [900, 1100, 2000, 8000])
def test_long_keys_are_told_apart(size: int) -> None:
    # Of those that are longer than 1 KiB a digest is kept.
    path = "/" + "x" * size
    with Web(echo, key=(":path",)) as web:
        client = web.client()
        for end in "abab":
            client.say(request(path + end))
            assert client.sized()[1] == f"GET {path}{end}".encode()
        assert len(web.asked) == 2


def test_long_keys_take_no_more_room_than_their_digest() -> None:
    with Web(lambda _: Reply(200), key=(":path",)) as web:
        client = web.client()
        served(client, request("/0"))
        before = web.engine.stats().verdicts.bytes
        served(client, *[request("/" + "x" * 7000 + str(n)) for n in range(10)])
        assert web.engine.stats().verdicts.bytes - before < 10 * 200


@pytest.mark.parametrize("size", [-1, (1 << 40) + 1])
def test_odd_bound_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="verdict_bytes"):
        Engine(workers=1, verdict_bytes=size)
