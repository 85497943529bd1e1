"""How a reflector lives with watches that end, stall, lie or are refused."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pyproxy.kube.reflector import Timing
from tests.support.kube_following import following
from tests.support.kube_server import (
    Answer,
    Asked,
    Handler,
    bookmark,
    dumps,
    line,
    service,
    status,
    until,
)

pytestmark = pytest.mark.adversity

Watch = Callable[[int, Answer], Awaitable[None]]


def after_list(watch: Watch) -> Handler:
    """Serve a list of one Service at 10 whenever asked; then what `watch` does."""
    count = 0

    async def serve(asked: Asked, answer: Answer) -> None:
        nonlocal count
        if "sendInitialEvents" in asked.query:
            await answer.event("ADDED", service("a", 5))
            await answer.event("BOOKMARK", bookmark(10, ends_list=True))
            return  # what follows is asked for with a version
        count += 1
        await watch(count, answer)

    return serve


async def rest(answer: Answer) -> None:
    """Leave a watch open."""
    if not answer.has_begun:
        answer.begin()
    await asyncio.Event().wait()


async def test_watch_that_ends_goes_on_where_it_was() -> None:
    async def watch(number: int, answer: Answer) -> None:
        if number == 1:
            await answer.event("MODIFIED", service("a", 12))
            await answer.event("BOOKMARK", bookmark(15))
            await done.wait()
        else:
            await answer.event("ADDED", service("b", 16))
            await rest(answer)

    done = asyncio.Event()
    async with following(after_list(watch)) as all_of_it:
        await all_of_it.slept(1)  # the streaming list ended at once
        await all_of_it.clock.advance(2)
        await all_of_it.told("+a", "synced", "~a")
        await until(lambda: all_of_it.reflector.version == "15")
        await all_of_it.clock.advance(2)  # a watch that lived is begun anew at once
        done.set()
        await all_of_it.told("+a", "synced", "~a", "+b")
        assert len(all_of_it.clock.slept) == 1
    asked = [each.query.get("resourceVersion") for each in all_of_it.script.watches]
    assert asked == [None, "10", "15"]


async def test_watch_that_ends_at_once_is_not_asked_for_in_a_busy_loop() -> None:
    async def watch(number: int, answer: Answer) -> None:
        await answer.event("MODIFIED", service("a", 5 + number))

    async with following(after_list(watch)) as all_of_it:
        for number in range(1, 9):
            await all_of_it.woken(number)
        # client-go's reflector: 0.8 s, twice as long each time, 30 s at most; the dice
        # are at the middle.
        expected = [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
        assert all_of_it.clock.slept[:8] == pytest.approx([1.5 * s for s in expected])


async def test_error_410_lists_anew() -> None:
    async def watch(number: int, answer: Answer) -> None:
        await answer.event("ERROR", status(410, "Expired", "too old"))

    async with following(after_list(watch)) as all_of_it:
        for number in range(1, 5):
            await all_of_it.woken(number)
        await all_of_it.watched(5)
    versions = [each.query.get("resourceVersion") for each in all_of_it.script.watches]
    assert versions[:5] == [None, "10", None, "10", None]


async def test_too_large_version_is_waited_for_and_then_given_up() -> None:
    # An apiserver that lags says when to come back; one restored from a backup will
    # never come to our version.
    refusal = status(
        *(504, "Timeout", "Timeout: Too large resource version: 10, current: 9"),
        causes=[{"reason": "ResourceVersionTooLarge", "message": "Too large"}],
        retryAfterSeconds=3,
    )

    async def watch(number: int, answer: Answer) -> None:
        await answer.document(refusal, 504)

    async with following(after_list(watch)) as all_of_it:
        for number in range(1, 7):
            await all_of_it.woken(number)
        await all_of_it.watched(7)
        assert all_of_it.clock.slept[1:5] == [3.0] * 4
    versions = [each.query.get("resourceVersion") for each in all_of_it.script.watches]
    assert versions[:7] == [None, *["10"] * 5, None]


@pytest.mark.parametrize(
    ("code", "reason"), [(429, "TooManyRequests"), (500, "InternalError")]
)
async def test_retry_after_is_respected(code: int, reason: str) -> None:
    async def watch(number: int, answer: Answer) -> None:
        if number == 1:
            await answer.document(status(code, reason), code, Retry_After="20")
        elif number == 2:
            await answer.event("ERROR", status(code, reason, retryAfterSeconds=40))
        else:
            await rest(answer)

    async with following(after_list(watch)) as all_of_it:
        await all_of_it.woken(1)
        await all_of_it.woken(2)
        await all_of_it.slept(3)
        assert all_of_it.clock.slept[1:] == pytest.approx([20 * 1.5, 40 * 1.5])
        await all_of_it.clock.advance(61)
        await all_of_it.watched(4)
        assert all_of_it.script.watches[-1].query["resourceVersion"] == "10"


async def test_silent_watch_is_given_up_after_its_time() -> None:
    # A peer that vanished without a FIN, or an apiserver under SIGSTOP.
    async def watch(number: int, answer: Answer) -> None:
        await answer.event("MODIFIED", service("a", 10 + number))
        await rest(answer)

    async with following(after_list(watch)) as all_of_it:
        await all_of_it.woken(1)
        await all_of_it.told("+a", "synced", "~a")
        await all_of_it.clock.advance(199)
        assert len(all_of_it.clock.slept) == 1
        await all_of_it.clock.advance(2)
        await all_of_it.woken(2)
        await all_of_it.told("+a", "synced", "~a", "~a")


async def test_watch_that_is_silent_twice_lists_anew() -> None:
    # kube-apiserver sends nothing to a watch from a version that it has not reached,
    # and after etcd was restored from a backup it may never reach it.
    async def watch(number: int, answer: Answer) -> None:
        await rest(answer)

    async with following(after_list(watch)) as all_of_it:
        await all_of_it.woken(1)
        for number in (2, 3):
            await all_of_it.watched(number)
            await all_of_it.clock.advance(200)
            await all_of_it.woken(number)
        await all_of_it.watched(4)
    versions = [each.query.get("resourceVersion") for each in all_of_it.script.watches]
    assert versions[:4] == [None, "10", "10", None]


@pytest.mark.parametrize(
    "back",
    [line("BOOKMARK", bookmark(9)), line("MODIFIED", service("a", 9))],
    ids=["bookmark", "change"],
)
async def test_server_that_went_back_in_time_is_listed_anew(back: bytes) -> None:
    async def watch(number: int, answer: Answer) -> None:
        await answer.send(back)
        await rest(answer)

    async with following(after_list(watch)) as all_of_it:
        for number in (1, 2):
            await all_of_it.woken(number)
        await all_of_it.watched(3)
    versions = [each.query.get("resourceVersion") for each in all_of_it.script.watches]
    assert versions[:3] == [None, "10", None]


async def test_trickle_without_a_line_end_is_silence() -> None:
    async def watch(number: int, answer: Answer) -> None:
        answer.begin()
        for byte in line("MODIFIED", service("a", 11)) if number == 1 else b"":
            await answer.send(bytes([byte]))
            await more.acquire()
        await rest(answer)

    more = asyncio.Semaphore(0)
    async with following(after_list(watch)) as all_of_it:
        await all_of_it.woken(1)
        await all_of_it.watched(2)
        for _ in range(23):
            more.release()
            await all_of_it.clock.advance(9)
        await all_of_it.slept(2)
        assert all_of_it.notes.lines == ["+a", "synced"]


async def test_watch_beyond_its_life_is_ended_by_us() -> None:
    async def watch(number: int, answer: Answer) -> None:
        while True:
            await answer.event("BOOKMARK", bookmark(10 + number))
            await more.acquire()

    more = asyncio.Semaphore(0)
    async with following(after_list(watch)) as all_of_it:
        await all_of_it.woken(1)
        await all_of_it.watched(2)
        for _ in range(24):  # 480 s: 450 were asked for, and 30 are its grace
            assert len(all_of_it.script.watches) == 2
            more.release()
            await until(more.locked)
            await all_of_it.clock.advance(20)
        await all_of_it.slept(2)


@pytest.mark.parametrize(
    "garbage",
    [
        b"}{\n",
        b"\x00\xff\n",
        b"[]\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"ERROR","object":7}\n',
        line("ADDED", service("b", 12))[:-9],
        line("ADDED", service("b", 12))[:60] + b"\n",
    ],
    ids=["no-json", "binary", "array", "no-object", "odd-error", "cut", "cut-line"],
)
async def test_line_without_sense_is_asked_for_again_and_then_listed(
    garbage: bytes,
) -> None:
    async def watch(number: int, answer: Answer) -> None:
        await answer.send(garbage)
        if not garbage.endswith(b"\n"):
            return
        await rest(answer)

    async with following(after_list(watch)) as all_of_it:
        for number in range(1, 7):
            await all_of_it.woken(number)
        await all_of_it.watched(7)
        assert all_of_it.notes.lines == ["+a", "synced"]
    versions = [each.query.get("resourceVersion") for each in all_of_it.script.watches]
    assert versions[:7] == [None, *["10"] * 5, None]


async def test_connection_that_breaks_off_amid_a_line_loses_nothing() -> None:
    async def watch(number: int, answer: Answer) -> None:
        text = line("ADDED", service("b", 12))
        if number == 1:
            await answer.send(line("MODIFIED", service("a", 11)) + text[:50])
            await heard.wait()
            answer.cut()
            return
        await answer.send(text)
        await rest(answer)

    heard = asyncio.Event()
    async with following(after_list(watch)) as all_of_it:
        await all_of_it.woken(1)
        await all_of_it.told("+a", "synced", "~a")
        heard.set()
        await all_of_it.woken(2)
        await all_of_it.told("+a", "synced", "~a", "+b")
        assert all_of_it.script.watches[-1].query["resourceVersion"] == "11"


async def test_object_larger_than_any_buffer_is_taken() -> None:
    large = service("large", 11)
    large["metadata"]["annotations"] = {"a": "x" * (3 << 20)}

    async def watch(number: int, answer: Answer) -> None:
        text = line("ADDED", large)
        for at in range(0, len(text), 50_000):
            await answer.send(text[at : at + 50_000])
        await rest(answer)

    async with following(after_list(watch)) as all_of_it:
        await all_of_it.woken(1)
        await all_of_it.told("+a", "synced", "+large")


async def test_trouble_is_said_once_and_its_end_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def watch(number: int, answer: Answer) -> None:
        if number < 4:
            await answer.document(status(403, "Forbidden", "no"), 403)
        else:
            await answer.event("BOOKMARK", bookmark(11))
            await rest(answer)

    caplog.set_level("INFO", "pyproxy.kube")
    async with following(after_list(watch), Timing(healthy_s=1)) as all_of_it:
        for number in range(1, 5):
            await all_of_it.woken(number)
        await until(lambda: all_of_it.reflector.version == "11")
    assert caplog.messages == ["synced", "watch lost", "watch regained"]
    assert all_of_it.restarts == ["services"] * 4


async def test_answer_that_is_no_api_is_no_list() -> None:
    # A captive portal, a proxy's error page.
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.send(b"<html>welcome</html>\n" if asked.is_watch else dumps([]))

    async with following(serve) as all_of_it:
        for number in range(1, 4):
            await all_of_it.woken(number)
        assert not all_of_it.store.is_synced
