"""All probes of a process: one task per backend, each at its own pace.

Settled backends are probed every `interval`, those about to change every
`fast_interval`, dead ones every `down_interval`; jitter keeps probes from
coinciding. A passive failure (the core could not connect) wakes the task at once.

A probe that waits for its answer gets company: up to `fall` probes wait at a time, so
that a server that hangs is dead one timeout after the first of them, not `fall` later.
When none has an answer after `suspect_after`, the server is suspect until one has.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pyproxy.model import Key, State, format_address
from pyproxy.probe.state import ProbeState, Result
from pyproxy.probe.wire import CannotProbeError, Finding, Target, probe

logger = logging.getLogger(__name__)

LATE_S = 0.1  # what our own lateness is told by
AT_ONCE = 256  # probes in flight: thousands of backends must not take all descriptors


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to probe and how many results make a state."""

    interval_s: float = 1.0
    fast_interval_s: float = 0.5
    down_interval_s: float = 2.0
    jitter: float = 0.1
    rise: int = 2
    fall: int = 3
    suspect_after_s: float = 0.75

    def next_wait_s(self, state: ProbeState) -> float:
        """Return the time to the next probe, before jitter."""
        if not state.settled:
            return min(self.fast_interval_s, self.interval_s)
        if state.state is State.DOWN:
            return self.down_interval_s
        return self.interval_s


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a process before us knew about a backend."""

    state: State
    since_s: float  # time.time() when that state began
    known_s: float  # and when a probe said so last
    hint: bool  # too long ago to act on; better than nothing


@dataclass(slots=True)
class Watched:
    """What is known about one backend."""

    target: Target
    pace: Pace
    state: ProbeState
    last: Finding | None = None
    last_at_s: float = 0.0  # time.time() of `last`, for people
    since_s: float = field(default_factory=time.time)  # of the present state
    known_s: float = 0.0  # time.time() when a probe last said something about it
    suspected: int = 0  # times that it became suspect
    downs: int = 0  # times that it was found dead, in the life of this process
    was_down_s: float = 0.0  # how long it was so, the present time apart
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


def down_for_s(watched: Watched, now_s: float) -> float:
    """Return how long a backend was dead, up to now."""
    is_down = watched.state.state is State.DOWN
    present_s = max(0.0, now_s - watched.since_s) if is_down else 0.0
    return watched.was_down_s + present_s


OnChange = Callable[[Watched, State], None]  # the second one is the state before
OnFinding = Callable[[Key, Finding], None]


class Checker:
    """Keeps the state of a set of backends up to date."""

    def __init__(
        self,
        on_change: OnChange,
        on_finding: OnFinding,
        *,
        run_probe: Callable[[Target], Awaitable[Finding]] = probe,
        sleep: Callable[[asyncio.Event, float], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_change = on_change
        self._on_finding = on_finding
        self._probe = run_probe
        self._sleep = sleep or _sleep_unless_set
        self._clock = clock
        self._watched: dict[Key, Watched] = {}
        self._remembered: Mapping[Key, Remembered] = {}
        self._permits = asyncio.Semaphore(AT_ONCE)
        self._news = asyncio.Event()  # a result came in

    @property
    def watched(self) -> dict[Key, Watched]:
        """The live records; read only."""
        return self._watched

    def states(self) -> dict[Key, State]:
        """Return the state of each backend."""
        return {key: watched.state.state for key, watched in self._watched.items()}

    def suspects(self) -> set[Key]:
        """Return the backends that new relays should avoid where others are ready."""
        return {key for key, each in self._watched.items() if each.state.suspect}

    def remember(self, what: Mapping[Key, Remembered]) -> None:
        """Begin with this at the next `follow`, and at that one only."""
        self._remembered = what

    def follow(self, targets: Iterable[tuple[Target, Pace]]) -> None:
        """Probe exactly these from now on. Backends that stay keep what is known."""
        wanted = {target.key: (target, pace) for target, pace in targets}
        for key in self._watched.keys() - wanted.keys():
            self._stop(self._watched.pop(key))
        for key, (target, pace) in wanted.items():
            watched = self._watched.get(key)
            if watched is None:
                watched = self._begin(target, pace)
                self._watched[key] = watched
                name = f"probe {format_address(*key)}"
                watched.task = asyncio.create_task(self._watch(watched), name=name)
            elif (watched.target, watched.pace) != (target, pace):
                watched.target, watched.pace = target, pace
                watched.state.rise, watched.state.fall = pace.rise, pace.fall
                watched.woken.set()
        self._remembered = {}

    def _begin(self, target: Target, pace: Pace) -> Watched:
        watched = Watched(target, pace, ProbeState(pace.rise, pace.fall))
        remembered = self._remembered.get(target.key)
        if remembered is not None:
            watched.state.state = remembered.state
            watched.state.hint = remembered.hint
            watched.since_s = remembered.since_s
            watched.known_s = remembered.known_s
        return watched

    def hurry(self, key: Key) -> None:
        """Probe this backend now: a dial to it failed.

        A thousand failures in a second are one: see `_pause`.
        """
        watched = self._watched.get(key)
        if watched is not None and watched.state.state is not State.DOWN:
            watched.woken.set()

    async def settle(self, enough: Callable[[], bool], grace_s: float) -> None:
        """Wait until every backend has a first result, each probe ending by timeout.

        Once `enough()` the rest gets no more than `grace_s`, and those that we remember
        get nothing.
        """
        end: float | None = None
        clock = asyncio.get_running_loop().time
        while any(w.last is None for w in self._watched.values()):
            if end is None and enough():
                if all(w.last or w.state.known for w in self._watched.values()):
                    return
                end = clock() + grace_s
            self._news.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self._news.wait()
            except TimeoutError:
                return

    async def close(self) -> None:
        """Stop all probes."""
        tasks = [w.task for w in self._watched.values() if w.task is not None]
        for watched in self._watched.values():
            self._stop(watched)
        self._watched.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop(self, watched: Watched) -> None:
        if watched.task is not None:
            watched.task.cancel()

    async def _watch(self, watched: Watched) -> None:
        while True:
            watched.woken.clear()
            began_s = self._clock()
            await self._ask(watched)
            await self._pause(watched, began_s)

    async def _ask(self, watched: Watched) -> None:
        """Probe until there is an answer, or enough probes had none."""
        asked = [self._start(watched)]
        waiting = set(asked)
        waits = 0
        try:
            while waiting:
                ended = await self._first_of(waiting, watched.pace.suspect_after_s / 2)
                waiting -= ended
                # One that answers speaks for the server, however many others wait.
                answers = [self._learn(watched, task) for task in ended]
                if any(answers):
                    return
                if watched.state.state in (State.DOWN, State.UNCHECKED) or ended:
                    continue
                waits += 1
                if waits == 2:
                    self._doubt(watched)
                if len(asked) < watched.pace.fall:
                    asked.append(self._start(watched))
                    waiting.add(asked[-1])
        finally:
            for task in waiting:
                task.cancel()

    def _start(self, watched: Watched) -> "asyncio.Task[Finding]":
        async def ask() -> Finding:
            async with self._permits:
                return await self._probe(watched.target)

        name = f"ask {format_address(*watched.target.key)}"
        return asyncio.create_task(ask(), name=name)

    async def _first_of(
        self, waiting: "set[asyncio.Task[Finding]]", wait_s: float
    ) -> "set[asyncio.Task[Finding]]":
        """Return those that end first, or none after a time."""
        clock = asyncio.get_running_loop().time
        while True:
            end = clock() + wait_s
            ended, _ = await asyncio.wait(
                waiting, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
            )
            # If we are late ourselves, an answer may be here that was not read yet.
            if ended or clock() - end < LATE_S:
                return ended
            wait_s = LATE_S

    def _learn(self, watched: Watched, task: "asyncio.Task[Finding]") -> bool:
        """Note what a probe says; return whether the server answered."""
        try:
            finding = task.result()
        except CannotProbeError as error:
            self._note_nothing(watched, str(error))
            return True
        except Exception:
            # A bug here must not stop the probing, and says nothing of the backend.
            logger.exception("probe failed", extra=_who(watched, bug=True))
            self._note_nothing(watched, "internal error")
            return True
        self._note(watched, finding)
        return finding.result is not Result.DEAD

    def _doubt(self, watched: Watched) -> None:
        before = watched.state.suspect
        watched.state.late = True
        self._on_suspicion(watched, before)

    def _on_suspicion(self, watched: Watched, before: bool) -> None:
        now = watched.state.suspect
        if now == before:
            return
        watched.suspected += now
        if now:
            logger.warning("backend does not answer", extra=_who(watched))
        elif watched.state.state is State.UP:
            logger.info("backend answers again", extra=_who(watched))
        self._on_change(watched, watched.state.state)

    async def _pause(self, watched: Watched, began_s: float) -> None:
        pace = watched.pace
        # Not for secrets: only so that probes do not coincide.
        spread = 1 + random.uniform(-pace.jitter, pace.jitter)
        await self._sleep(watched.woken, pace.next_wait_s(watched.state) * spread)
        # Woken early: still no faster than fast, or a burst of failed connects would
        # make `fall` probes of one moment.
        rest_s = began_s + pace.fast_interval_s - self._clock()
        if watched.woken.is_set() and rest_s > 0:
            await self._sleep(asyncio.Event(), rest_s)

    def _note(self, watched: Watched, finding: Finding) -> None:
        before, was_suspect = watched.state.state, watched.state.suspect
        after = watched.state.observe(finding.result)
        watched.last, watched.last_at_s = finding, time.time()
        watched.known_s = watched.last_at_s
        self._on_finding(watched.target.key, finding)
        self._news.set()
        if after is before:
            self._on_suspicion(watched, was_suspect)
            return
        if before is State.DOWN:
            watched.was_down_s += max(0.0, watched.last_at_s - watched.since_s)
        watched.downs += after is State.DOWN
        watched.since_s = watched.last_at_s
        level = logging.INFO if after is State.UP else logging.WARNING
        extra = _who(watched, was=str(before), now=str(after), why=finding.why)
        logger.log(level, "backend changed", extra=extra)
        self._on_change(watched, before)

    def _note_nothing(self, watched: Watched, why: str) -> None:
        known = watched.last.result if watched.last else Result.DEAD
        if watched.last is None or watched.last.why != why:
            logger.warning("probe not possible", extra=_who(watched, why=why))
        watched.last = Finding(known, why, 0.0)
        watched.last_at_s = time.time()
        self._news.set()


def _who(watched: Watched, **more: object) -> dict[str, object]:
    return {"backend": format_address(*watched.target.key), **more}


async def _sleep_unless_set(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return
