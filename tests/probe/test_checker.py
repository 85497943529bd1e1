"""Many probes at once: pace, haste, change of the set. Time is a fake."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pyproxy.model import Key, State
from pyproxy.probe import (
    CannotProbeError,
    Checker,
    Finding,
    Pace,
    Result,
    Target,
    Watched,
)
from tests.fakes.patience import until

pytestmark = pytest.mark.live

A, B = ("10.0.0.1", 1), ("10.0.0.2", 1)
PACE = Pace(interval_s=10, fast_interval_s=1, down_interval_s=30, jitter=0)
QUICK = Pace(interval_s=10, jitter=0, fall=3, suspect_after_s=0.1)


def target(key: Key, path: str = "/readyz") -> Target:
    """What the fake probe is asked for."""
    return Target(key, key[0], "http", 1.0, path)


class World:
    """Servers whose results a test sets, and a clock that it turns."""

    def __init__(self) -> None:
        self.results: dict[Key, Result | Exception] = {}
        self.probed: list[Key] = []
        self.waits: list[float] = []
        self.changes: list[tuple[Key, State, State]] = []
        self.findings = 0
        self.now = 0.0
        self._sleepers: list[asyncio.Event] = []
        self.hung = asyncio.Event()  # probes wait for it when the result is missing
        self.checker = Checker(
            self._changed,
            self._found,
            run_probe=self._probe,
            sleep=self._sleep,
            clock=lambda: self.now,
        )

    def _changed(self, watched: Watched, before: State) -> None:
        self.changes.append((watched.target.key, before, watched.state.state))

    def _found(self, key: Key, finding: Finding) -> None:
        self.findings += 1

    async def _probe(self, wanted: Target) -> Finding:
        self.probed.append(wanted.key)
        if wanted.key not in self.results:
            await self.hung.wait()
        result = self.results[wanted.key]
        if isinstance(result, Exception):
            raise result
        return Finding(result, str(result), 0.001)

    async def _sleep(self, woken: asyncio.Event, seconds: float) -> None:
        self.waits.append(seconds)
        turned = asyncio.Event()
        self._sleepers.append(turned)
        waits = [asyncio.ensure_future(each.wait()) for each in (turned, woken)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if turned in self._sleepers:
                self._sleepers.remove(turned)
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def turn(self) -> None:
        """Let every sleeper wake, and wait until all sleep again."""
        probed = len(self.probed)
        self.now += 3600
        sleepers, self._sleepers = self._sleepers, []
        for turned in sleepers:
            turned.set()
        await self.until(lambda: len(self._sleepers) == len(sleepers))
        assert len(self.probed) == probed + len(sleepers)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Give way until `condition` holds."""
        await until(condition, pause_s=0)

    async def begin(self, *keys: Key) -> None:
        """Follow these and wait for their first results."""
        self.checker.follow([(target(key), PACE) for key in keys])
        await self.until(lambda: len(self._sleepers) == len(keys))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A world whose probes end with the test."""
    made = World()
    yield made
    await made.checker.close()


async def test_first_result_decides_and_pace_follows_the_state(world: World) -> None:
    world.results = {A: Result.READY}
    await world.begin(A)
    assert world.changes == [(A, State.UNCHECKED, State.UP)]
    world.results[A] = Result.DEAD
    for _ in range(3):
        await world.turn()
    # First suspect, then dead.
    assert world.changes[1:] == [(A, State.UP, State.UP), (A, State.UP, State.DOWN)]
    assert world.waits == [10, 1, 1, 30]
    assert world.findings == 4


async def test_hurry_probes_at_once_and_only_that_one(world: World) -> None:
    world.results = {A: Result.READY, B: Result.READY}
    await world.begin(A, B)
    world.now += 5
    world.checker.hurry(B)
    world.checker.hurry(("10.9.9.9", 9))  # gone meanwhile: nothing to do
    await world.until(lambda: len(world.probed) == 3)
    assert world.probed[2] == B


async def test_burst_of_failures_is_one_probe_per_fast_interval(world: World) -> None:
    world.results = {A: Result.READY}
    await world.begin(A)
    world.now += 0.25
    for _ in range(1000):
        world.checker.hurry(A)
    await world.until(lambda: len(world.waits) == 2)
    assert world.waits == [10, 0.75]  # what is left of the fast interval
    assert len(world.probed) == 1
    await world.turn()
    assert len(world.probed) == 2


async def test_haste_is_of_no_use_for_the_dead(world: World) -> None:
    world.results = {A: Result.DEAD}
    await world.begin(A)
    world.now += 5
    world.checker.hurry(A)
    for _ in range(9):
        await asyncio.sleep(0)
    assert len(world.probed) == 1


async def test_backends_that_stay_keep_their_state(world: World) -> None:
    world.results = {A: Result.DEAD, B: Result.READY}
    await world.begin(A)
    world.checker.follow([(target(A), PACE), (target(B), PACE)])
    await world.until(lambda: len(world.changes) == 2)
    assert world.checker.states() == {A: State.DOWN, B: State.UP}
    world.checker.follow([(target(B), PACE)])
    assert world.checker.states() == {B: State.UP}


async def test_new_settings_apply_to_the_running_probe_at_once(world: World) -> None:
    world.results = {A: Result.READY}
    await world.begin(A)
    slower = Pace(interval_s=99, jitter=0, fall=1)
    world.now += 5
    world.checker.follow([(target(A, "/livez"), slower)])
    await world.until(lambda: len(world.waits) == 2)
    assert world.waits[1] == 99
    world.results[A] = Result.DEAD
    world.now += 5
    world.checker.hurry(A)
    await world.until(lambda: len(world.changes) == 2)
    assert world.checker.states() == {A: State.DOWN}


async def test_following_the_same_again_disturbs_nothing(world: World) -> None:
    world.results = {A: Result.READY}
    await world.begin(A)
    world.checker.follow([(target(A), PACE)])
    for _ in range(9):
        await asyncio.sleep(0)
    assert len(world.probed) == 1


async def test_probe_that_was_not_possible_changes_nothing(world: World) -> None:
    world.results = {A: Result.READY}
    await world.begin(A)
    world.results[A] = CannotProbeError("no descriptor")
    for _ in range(5):
        await world.turn()
    assert world.checker.states() == {A: State.UP}
    last = world.checker.watched[A].last
    assert last is not None
    assert last.why == "no descriptor"


async def test_bug_in_a_probe_is_logged_and_probing_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.results = {A: Result.READY}
    await world.begin(A)
    world.results[A] = ZeroDivisionError("bug")
    await world.turn()
    assert "probe failed" in caplog.text
    world.results[A] = Result.DEAD
    for _ in range(3):
        await world.turn()
    assert world.checker.states() == {A: State.DOWN}


async def test_settle_waits_for_every_first_result(world: World) -> None:
    world.results = {A: Result.READY}
    world.checker.follow([(target(A), PACE), (target(B), PACE)])
    waiting = asyncio.create_task(world.checker.settle(lambda: False, 0.0))
    await world.until(lambda: world.changes)
    assert not waiting.done()
    world.results[B] = Result.DEAD
    world.hung.set()
    await waiting
    assert world.checker.states() == {A: State.UP, B: State.DOWN}


async def test_settle_gives_the_slow_only_grace_once_there_is_enough(
    world: World,
) -> None:
    world.results = {A: Result.READY}
    world.checker.follow([(target(A), PACE), (target(B), PACE)])
    enough = lambda: State.UP in world.checker.states().values()  # noqa: E731
    await world.checker.settle(enough, grace_s=0.01)
    assert world.checker.states() == {A: State.UP, B: State.UNCHECKED}


async def test_jitter_keeps_probes_out_of_step(world: World) -> None:
    world.results = {A: Result.READY}
    pace = Pace(interval_s=10, jitter=0.1)
    world.checker.follow([(target(A), pace)])
    await world.until(lambda: len(world.waits) == 1)
    for _ in range(20):
        await world.turn()
    assert len(set(world.waits)) > 10
    assert all(9 <= wait <= 11 for wait in world.waits)


async def test_thousands_of_backends_are_not_probed_all_at_once(world: World) -> None:
    keys = [(f"10.0.{i}.{j}", 1) for i, j in itertools.product(range(4), range(100))]
    world.checker.follow([(target(key), PACE) for key in keys])
    await world.until(lambda: len(world.probed) == 256)
    for _ in range(9):
        await asyncio.sleep(0)
    assert len(world.probed) == 256
    world.results = dict.fromkeys(keys, Result.READY)
    world.hung.set()
    await world.until(lambda: len(world.changes) == 400)


async def test_real_sleep_ends_by_time_and_by_haste() -> None:
    found: list[Key] = []
    results = itertools.repeat(Finding(Result.READY, "", 0.0))

    async def run_probe(wanted: Target) -> Finding:
        return next(results)

    checker = Checker(
        lambda watched, before: None,
        lambda key, finding: found.append(key),
        run_probe=run_probe,
    )
    quick, slow = Pace(interval_s=0.01), Pace(interval_s=3600)
    checker.follow([(target(A), quick), (target(B), slow)])
    await until(lambda: found.count(A) >= 3)
    checker.hurry(B)
    await until(lambda: found.count(B) >= 2)
    await checker.close()


class Hanging:
    """A server that answers, or leaves probes waiting; in real time."""

    def __init__(self, pace: Pace = QUICK) -> None:
        self.hangs = False
        self.asked = 0
        self.ended = 0
        self.changes: list[tuple[State, bool]] = []
        self.timeout_s = 0.6
        self.checker = Checker(
            lambda watched, before: self.changes.append(
                (watched.state.state, watched.state.suspect)
            ),
            lambda key, finding: None,
            run_probe=self._probe,
        )
        self.checker.follow([(target(A), pace)])

    async def _probe(self, wanted: Target) -> Finding:
        self.asked += 1
        try:
            for _ in range(int(self.timeout_s / 0.01)):
                if not self.hangs:
                    return Finding(Result.READY, "answers", 0.0)
                await asyncio.sleep(0.01)
            return Finding(Result.DEAD, "no answer", self.timeout_s)
        finally:
            self.ended += 1

    async def hang(self) -> None:
        """Stop to answer once it is up, and be probed."""
        await until(lambda: self.changes)
        assert self.changes.pop() == (State.UP, False)
        self.hangs = True
        self.checker.hurry(A)


async def test_server_that_hangs_is_suspect_then_dead_after_one_timeout() -> None:
    server = Hanging()
    await server.hang()
    before = server.asked
    await until(lambda: server.changes)
    assert server.changes == [(State.UP, True)]
    assert server.checker.suspects() == {A}
    assert server.checker.watched[A].suspected == 1
    await until(lambda: len(server.changes) == 2)
    assert server.changes[1] == (State.DOWN, False)
    assert server.asked - before == 3  # all at a time, each with its own timeout
    assert server.checker.suspects() == set()
    await server.checker.close()


async def test_server_that_was_slow_once_is_above_suspicion_again() -> None:
    server = Hanging()
    await server.hang()
    await until(lambda: server.changes)
    server.hangs = False
    await until(lambda: len(server.changes) == 2)
    assert server.changes == [(State.UP, True), (State.UP, False)]
    await until(lambda: server.asked == server.ended)  # none is left waiting
    await server.checker.close()


async def test_server_that_answers_in_time_is_never_suspect() -> None:
    server = Hanging()
    await server.hang()
    await asyncio.sleep(0.06)  # one probe more is under way; too early for doubt
    server.hangs = False
    await until(lambda: server.asked == server.ended)
    assert server.changes == []
    assert server.checker.watched[A].suspected == 0
    await server.checker.close()


async def test_our_own_lateness_makes_nobody_suspect() -> None:
    server = Hanging()
    await server.hang()
    await asyncio.sleep(0)
    server.hangs = False  # its answer is on its way, and we do not look
    time.sleep(0.3)  # noqa: ASYNC251
    await asyncio.sleep(0.05)
    assert server.changes == []
    await server.checker.close()


async def test_following_another_set_leaves_no_probe_behind() -> None:
    server = Hanging()
    await server.hang()
    await until(lambda: server.changes)
    server.checker.follow([])
    await until(lambda: server.asked == server.ended)
    await server.checker.close()


async def test_refused_probe_is_suspicion_at_once(world: World) -> None:
    world.results = {A: Result.READY}
    await world.begin(A)
    world.results[A] = Result.DEAD
    await world.turn()
    assert world.checker.suspects() == {A}
    assert world.changes[1:] == [(A, State.UP, State.UP)]
    world.results[A] = Result.READY
    await world.turn()
    assert world.checker.suspects() == set()
    assert world.changes[2:] == [(A, State.UP, State.UP)]
