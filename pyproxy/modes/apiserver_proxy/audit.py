"""The audit log: whether there is one, which trails it needs, what is lost of it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pyproxy.dataplane import Dataplane, Record
from pyproxy.http.audit import Ids, Trail, Trails
from pyproxy.metrics import counter
from pyproxy.modes.apiserver_proxy.auditfile import Counts, Writer

if TYPE_CHECKING:
    from pyproxy.metrics import Family

logger = logging.getLogger(__name__)

LOOK_S = 10.0  # how often it is looked whether events were lost
MOST_TUNNELS = 65_536  # whose trails are kept until they end


class Audit:
    """Notes what was decided under numbers, and has records written with it."""

    def __init__(self, dataplane: Callable[[], Dataplane]) -> None:
        """Begin without a file. `dataplane` returns the core, once it is open."""
        self._dataplane = dataplane
        self._trails = Trails(lambda: dataplane().forget())
        self._tunnels: dict[int, Trail] = {}  # by id of the record
        self._counts, self._ids = Counts(), Ids()
        self._writer: Writer | None = None
        self._told = 0

    def open(self, path: str) -> None:
        """Write to this file from now on; "" = to none. Raise StartError."""
        before = self._writer
        if path == (before.path if before is not None else ""):
            return
        self._writer = Writer(path, self._counts, self._ids) if path else None
        self._dataplane().on_records = self._take if path else None
        if before is not None:
            before.close()

    def number(self, trail: Trail, *, is_kept: bool) -> int:
        """Return what records shall call a trail; 0 = nothing is written.

        `is_kept`: the core remembers the decision, and uses the number again.
        """
        if self._writer is None:
            return 0
        trails = self._trails
        return trails.number(trail) if is_kept else trails.pass_by(trail)

    def _take(self, records: list[Record]) -> None:
        decided = [(record, self._trail_of(record)) for record in records]
        if self._writer is not None:
            self._writer.take(
                [each for each in decided if each[1] is None or not each[1].passed_on]
            )

    def _trail_of(self, record: Record) -> Trail | None:
        """Look it up now: it may be forgotten before the line is written."""
        trail = self._trails.get(record.label)
        if record.status == 101 and record.is_over:
            return self._tunnels.pop(record.id, trail)
        if not record.is_over and trail and len(self._tunnels) < MOST_TUNNELS:
            self._tunnels[record.id] = trail  # it may live for days
        return trail

    async def look(self) -> None:
        """Say if events were lost."""
        await asyncio.sleep(LOOK_S)
        self.speak()

    def speak(self) -> None:
        """Say how many events were lost since the last time."""
        if self._writer is None:
            return
        listeners = self._dataplane().stats().http.values()
        lost = self._counts.unwritten + self._counts.unqueued
        lost += sum(one.unrecorded for one in listeners)
        if lost > self._told:
            logger.warning("audit events lost", extra={"events": lost - self._told})
            self._told = lost

    def why_not_written(self) -> str | None:
        """Return what is wrong with the file now."""
        return (self._writer.trouble if self._writer is not None else "") or None

    def close(self) -> None:
        """Write what waits."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def collect(self) -> "Iterator[Family]":
        """Count events; what the core has lost is in http_records_lost."""
        written = counter("audit_events", "Events written to the audit log.")
        written.add_metric([], self._counts.written)
        yield written
        lost = counter("audit_events_lost", "Events not written.", "reason")
        lost.add_metric(["file"], self._counts.unwritten)
        lost.add_metric(["slow"], self._counts.unqueued)
        yield lost
