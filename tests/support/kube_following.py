"""A reflector that follows a scripted server into a store, with its notes."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from pyproxy.kube.objects import Service
from pyproxy.kube.reflector import USUAL, Reflector, Timing
from pyproxy.kube.resource import SERVICES
from pyproxy.kube.store import Store
from pyproxy.kube.watching import Selection
from pyproxy.kube.wire import Wire
from tests.support.kube_server import Handler, Script, until, wire_to
from tests.support.kube_time import FakeTime


@dataclass
class Notes:
    """A handler that writes down what it is told."""

    lines: list[str] = field(default_factory=list)

    def on_upsert(self, key: str, old: Service | None, new: Service) -> None:
        """Write down + for a new object, ~ for a changed one."""
        self.lines.append(f"{'~' if old else '+'}{new.metadata.name}")

    def on_delete(self, key: str, last: Service) -> None:
        """Write down -."""
        self.lines.append(f"-{last.metadata.name}")

    def on_synced(self) -> None:
        """Write it down."""
        self.lines.append("synced")


class Even(random.Random):
    """Dice that always show the same."""

    def random(self) -> float:
        """Return the middle."""
        return 0.5


@dataclass
class Following:
    """Everything about one reflector under test."""

    script: Script
    clock: FakeTime
    wire: Wire
    store: Store[Service]
    notes: Notes
    reflector: Reflector[Service]
    restarts: list[str]

    @property
    def names(self) -> list[str]:
        """What the store holds, in order."""
        return sorted(each.metadata.name for each in self.store.objects.values())

    async def synced(self) -> None:
        """Wait for the store."""
        await until(lambda: self.store.is_synced)

    async def told(self, *lines: str) -> None:
        """Wait until the handler was told exactly this, all in all."""
        await until(lambda: len(self.notes.lines) >= len(lines))
        assert self.notes.lines == list(lines)

    async def slept(self, count: int) -> None:
        """Wait until it waits for the `count`th time."""
        await until(lambda: len(self.clock.slept) >= count)

    async def woken(self, count: int) -> None:
        """Wait until it waits for the `count`th time, and let that time pass."""
        await self.slept(count)
        await self.clock.advance(self.clock.slept[count - 1])

    async def watched(self, count: int) -> None:
        """Wait until it has asked for the `count`th watch."""
        await until(lambda: len(self.script.watches) >= count)


@asynccontextmanager
async def following(
    handler: Handler, timing: Timing = USUAL, labels: str = "", fields: str = ""
) -> AsyncIterator[Following]:
    """Serve with the handler and follow it."""
    clock, notes, restarts = FakeTime(), Notes(), list[str]()
    store: Store[Service] = Store()
    store.add_handler(notes)
    async with Script(handler) as script:
        wire = wire_to(script.url, clock)
        selection = Selection(SERVICES, "x", labels, fields)
        reflector = Reflector(
            *(wire, selection, store),
            timing=timing,
            dice=Even(),
            on_restart=restarts.append,
        )
        task = asyncio.create_task(reflector.run())
        try:
            yield Following(script, clock, wire, store, notes, reflector, restarts)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await wire.close()
