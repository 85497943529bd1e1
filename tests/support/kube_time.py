"""Time that moves when a test says so, for what sleeps and what times out."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

from pyproxy.kube.config import Clock

TURNS = 50  # of the loop, for woken tasks to come to rest again


class FakeTime(Clock):
    """Begins at a round number; sleepers and timeouts wait for `advance`."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.slept: list[float] = []  # how long each sleep was meant to be

    def monotonic(self) -> float:
        """Return the fake time."""
        return self.now

    def wall(self) -> float:
        """Return the fake time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Return when the fake time has come."""
        self.slept.append(seconds)
        done = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        self._at(seconds, wake)
        await done

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """Return what expires when the fake time has come."""
        made = asyncio.timeout(None)
        loop = asyncio.get_running_loop()

        def expire() -> None:
            # RuntimeError: it was left before.
            try:
                made.reschedule(loop.time())
            except RuntimeError:
                return

        self._at(seconds, expire)
        return made

    async def advance(self, seconds: float) -> None:
        """Let time pass; wake due tasks, in order, and let them come to rest."""
        ends_at = self.now + seconds
        await self.settle()
        while self._due and self._due[0][0] <= ends_at:
            self.now, _, wake = heapq.heappop(self._due)
            wake()
            await self.settle()
        self.now = ends_at

    async def settle(self) -> None:
        """Let all tasks run that can."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _at(self, seconds: float, wake: Callable[[], None]) -> None:
        due = (self.now + seconds, next(self._order), wake)
        heapq.heappush(self._due, due)
