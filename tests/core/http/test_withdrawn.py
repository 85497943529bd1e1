"""Questions that nobody waits for any more, and how many may wait."""

import pytest

from fastpath import Engine, Reply
from tests.support.waiting import wait_until
from tests.support.web_rig import Web

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("how", ["close", "reset", "end"])
def test_question_of_a_client_that_left_is_withdrawn(how: str) -> None:
    # Issue 11, 1: work for 12,000 clients that had left held up the next one for 40 s.
    with Web(lambda _: None) as web:
        client, other = web.client(GET), web.client(GET)
        wait_until(lambda: len(web.asked) == 2)
        assert web.engine.withdrawn() == []
        getattr(client, how)()
        (gone,) = wait_until(web.engine.withdrawn)
        assert gone in web.asked
        kept = next(question for question in web.asked if question is not gone)
        web.engine.answer(gone, Reply(200))  # in vain, and no harm
        web.engine.answer(kept, Reply(200))
        assert other.sized()[0] == "HTTP/1.1 200 OK"
        assert web.engine.withdrawn() == []


def test_question_withdrawn_before_it_was_read_is_never_seen() -> None:
    with Web(lambda _: None) as web:
        web._stopping.set()  # nobody reads questions now
        web._thread.join()
        for _ in range(20):
            web.client(GET).close()
        wait_until(lambda: web.stats.asked == 20)
        wait_until(lambda: web.engine.stats().relays_active == 0)
        assert web.engine.questions() == []
        assert web.engine.withdrawn() == []


def test_question_that_took_too_long_is_withdrawn() -> None:
    with Web(lambda _: None, park_timeout_s=0.1) as web:
        assert web.client(GET).sized()[0] == "HTTP/1.1 503 Service Unavailable"
        assert wait_until(web.engine.withdrawn) == web.asked


BOUNDS = {"count": {"parked_most": 3}, "bytes": {"parked_bytes": 3 * 1000}}


@pytest.mark.parametrize("bound", BOUNDS)
def test_surplus_of_those_that_wait_is_refused(bound: str) -> None:
    head = GET[:-2] + b"X: " + b"x" * 700 + b"\r\n\r\n"
    with Web(lambda _: None, engine=BOUNDS[bound], workers=2) as web:
        waiting = [web.client(head) for _ in range(3)]
        wait_until(lambda: len(web.asked) == 3)  # by Python
        first, body = web.client(head).sized()
        assert first == "HTTP/1.1 503 Service Unavailable"
        assert body == b"too many requests wait for a decision\n"
        waiting[0].close()  # makes room
        wait_until(web.engine.withdrawn)
        again = web.client(head)
        wait_until(lambda: len(web.asked) == 4)
        web.engine.answer(web.asked[-1], Reply(200))
        assert again.sized()[0] == "HTTP/1.1 200 OK"


@pytest.mark.parametrize("bounds", [{"parked_most": 0}, {"parked_bytes": 0}])
def test_bound_without_room_is_refused(bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="parked_"):
        Engine(workers=1, **bounds)  # type: ignore[arg-type]
