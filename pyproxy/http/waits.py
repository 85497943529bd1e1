"""Questions that wait for the same answer, which is got once for all of them.

A client that leaves takes its question along, and the last one ends the getting.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

SLICE = 200  # questions that are settled before others of the loop have their turn

Ticket = tuple[int, ...]
Need = TypeVar("Need")
Waiting = TypeVar("Waiting")
Outcome = TypeVar("Outcome")


@dataclass(slots=True)
class _Wait(Generic[Waiting]):
    """Those that wait for one answer, by the ticket of their question."""

    waiting: dict[Ticket, Waiting] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None


class Waits(Generic[Need, Waiting, Outcome]):
    """Needs, and what waits for each."""

    def __init__(
        self,
        get: Callable[[Need], Awaitable[Outcome]],
        settle: Callable[[Waiting, Need, Outcome], None],
    ) -> None:
        """`get` turns its own failures into outcomes; `settle` raises nothing."""
        self._get = get
        self._settle = settle
        self._waits: dict[Need, _Wait[Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, need: Need, ticket: Ticket, waiting: Waiting) -> None:
        """Let one more wait, and get what it needs unless that is under way."""
        wait = self._waits.get(need)
        if wait is None:
            wait = self._waits[need] = _Wait()
            wait.task = asyncio.create_task(self._run(need, wait))
            self._tasks.add(wait.task)
            wait.task.add_done_callback(self._tasks.discard)
        wait.waiting[ticket] = waiting

    def withdraw(self, ticket: Ticket) -> None:
        """Forget a question whose client has left."""
        for need, wait in self._waits.items():
            if wait.waiting.pop(ticket, None) is None:
                continue
            if not wait.waiting and wait.task is not None:
                wait.task.cancel()
                del self._waits[need]
            return

    async def close(self) -> None:
        """Leave what waits as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, need: Need, wait: _Wait[Waiting]) -> None:
        try:
            outcome = await self._get(need)
        finally:
            # A question from now on finds what is known, or waits anew.
            if self._waits.get(need) is wait:
                del self._waits[need]
        settled = 0
        while wait.waiting:
            _, one = wait.waiting.popitem()
            self._settle(one, need, outcome)
            settled += 1
            if settled % SLICE == 0:
                await asyncio.sleep(0)
