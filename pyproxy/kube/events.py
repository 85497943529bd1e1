"""Events for people to read: few of them, and never at the cost of the caller.

`Recorder.event` only puts a note into a bounded queue; `run` delivers. Notes that do
not fit, or cannot be delivered, are dropped and counted.
"""

import asyncio
import itertools
import logging
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from pyproxy.kube.backoff import Backoff
from pyproxy.kube.client import Client
from pyproxy.kube.correlator import Correlator, Entry, Kind, Note
from pyproxy.kube.errors import KubeError
from pyproxy.kube.objects import Object, ObjectMeta, ObjectReference
from pyproxy.kube.records import Event, EventSource
from pyproxy.kube.resource import EVENTS, Resource

logger = logging.getLogger(__name__)

QUEUED = 1000  # client-go's
TRIES = 12  # to deliver one; client-go's
FIRST_S, LONGEST_S = 1.0, 10.0  # between two of them
LONGEST_MESSAGE = 1024  # characters; the API refuses more

Reason = Literal["queue full", "too many", "not delivered"]
T = TypeVar("T", bound=Object)


def reference(resource: Resource[T], found: T) -> ObjectReference:
    """Return what an Event about an object names."""
    metadata = found.metadata
    return ObjectReference(
        kind=resource.kind,
        api_version=resource.api_version,
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
    )


class Recorder:
    """Takes notes at once, and writes Events when it can."""

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        """`component` and `host` name the reporter."""
        self._client = client
        self._clock = client.wire.clock
        self._component, self._host = component, host
        self._queue: deque[Note] = deque()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._correlator = Correlator()
        self._numbers = itertools.count()
        self._trouble = ""
        self.dropped: Counter[Reason] = Counter()

    def event(
        self, about: ObjectReference, kind: Kind, reason: str, message: str
    ) -> None:
        """Say that something happened to an object. Never waits, never raises."""
        if len(self._queue) >= QUEUED:
            self.dropped["queue full"] += 1
            return
        note = Note(about, kind, reason, message, self._clock.wall())
        self._queue.append(note)
        self._idle.clear()
        self._filled.set()

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            await self._filled.wait()
            while self._queue:
                await self._take(self._queue.popleft())
            self._filled.clear()
            self._idle.set()

    async def flushed(self) -> None:
        """Return when all that was said is delivered or dropped."""
        await self._idle.wait()

    async def _take(self, note: Note) -> None:
        entry = self._correlator.judge(note, self._clock.monotonic())
        if entry is None:
            self.dropped["too many"] += 1
            return
        backoff = Backoff(FIRST_S, LONGEST_S)
        for tries_left in reversed(range(TRIES)):
            try:
                await self._write(entry)
            except KubeError as error:
                self._note_trouble(str(error))
                if not error.is_transient or not tries_left:
                    self.dropped["not delivered"] += 1
                    return
                await self._clock.sleep(backoff.next_s(error.retry_after_s))
            else:
                self._trouble = ""
                return

    async def _write(self, entry: Entry) -> None:
        """Create the Event, or raise its count. Raise KubeError."""
        namespace = entry.note.about.namespace or "default"
        if entry.name:
            try:
                await self._client.patch(
                    EVENTS, f"{namespace}/{entry.name}", self._newer(entry)
                )
            except KubeError as error:
                if not error.is_missing:
                    raise
                entry.name, entry.unique = "", 0  # they live for an hour only
            else:
                return
        made = self._made(entry, namespace)
        try:
            await self._client.create(EVENTS, made)
        except KubeError as error:
            if not error.is_taken:  # by our last try, whose answer was lost
                raise
        entry.name = made.metadata.name

    def _made(self, entry: Entry, namespace: str) -> Event:
        note = entry.note
        if not entry.unique:  # kept: a second try must not make a second Event
            entry.unique = round(note.at_s * 1e6) * 1000 + next(self._numbers) % 1000
        return Event(
            metadata=ObjectMeta(
                name=f"{note.about.name}.{entry.unique:x}", namespace=namespace
            ),
            involved_object=note.about,
            type=note.kind,
            reason=note.reason,
            message=note.message[:LONGEST_MESSAGE],
            source=EventSource(component=self._component, host=self._host),
            first_timestamp=_time(entry.first_s),
            last_timestamp=_time(note.at_s),
            count=entry.count,
            reporting_component=self._component,
            reporting_instance=self._host,
        )

    def _newer(self, entry: Entry) -> dict[str, Any]:
        return {
            "count": entry.count,
            "message": entry.note.message[:LONGEST_MESSAGE],
            "lastTimestamp": _time(entry.note.at_s),
        }

    def _note_trouble(self, why: str) -> None:
        if why != self._trouble:  # once per trouble
            self._trouble = why
            logger.warning("event not delivered", extra={"why": why})


def _time(wall_s: float) -> str:
    """Write a time as the API's Time."""
    text = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="seconds")
    return text.replace("+00:00", "Z")
