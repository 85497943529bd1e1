"""Events: what is written, what is counted, what is dropped, and that nobody waits.

Expectations are those of client-go's tools/record (event.go, events_cache.go).
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from pyproxy.kube.client import Client
from pyproxy.kube.correlator import COMBINED, Correlator, Note, Recent
from pyproxy.kube.events import Recorder, reference
from pyproxy.kube.objects import ObjectMeta, ObjectReference, Service
from pyproxy.kube.resource import EVENTS, SERVICES
from pyproxy.sandbox.certificates import Authority
from tests.support.kube_sandbox import sandbox
from tests.support.kube_server import (
    Answer,
    Asked,
    Handler,
    Script,
    status,
    until,
    wire_to,
)
from tests.support.kube_time import FakeTime

ABOUT = ObjectReference(kind="Service", namespace="default", name="s", uid="u")


def note(message: str = "m", name: str = "s", at_s: float = 0.0) -> Note:
    """Return a note about a Service."""
    about = ObjectReference(kind="Service", namespace="x", name=name)
    return Note(about, "Normal", "R", message, at_s)


def test_repeated_note_raises_the_count() -> None:
    correlator = Correlator()
    first = correlator.judge(note(at_s=5.0), 0.0)
    assert first is not None
    first.name = "s.1"
    second = correlator.judge(note(at_s=9.0), 1.0)
    assert second is first
    assert (second.count, second.first_s, second.note.at_s) == (2, 5.0, 9.0)


def test_tenth_message_that_differs_is_combined() -> None:
    correlator = Correlator()
    found = [correlator.judge(note(str(n)), 0.0) for n in range(15)]
    texts = [each.note.message for each in found if each is not None]
    assert texts[:9] == [str(n) for n in range(9)]
    assert texts[-1] == f"{COMBINED}14"
    assert found[9] is found[14]
    assert found[14] is not None
    assert found[14].count == 6


def test_similar_notes_long_apart_are_not_combined() -> None:
    correlator = Correlator()
    for n in range(30):
        found = correlator.judge(note(str(n)), 601.0 * n)
        assert found is not None
        assert found.note.message == str(n)


def test_object_may_say_25_things_at_once_and_then_one_in_5_minutes() -> None:
    correlator = Correlator()
    heard = [correlator.judge(note(), 0.0) for _ in range(40)]
    assert sum(each is not None for each in heard) == 25
    assert correlator.judge(note(name="another"), 0.0) is not None
    assert correlator.judge(note(), 299.0) is None
    entry = correlator.judge(note(), 600.0)
    assert entry is not None
    assert entry.count == 42  # also what was not heard
    assert correlator.judge(note(), 601.0) is not None
    assert correlator.judge(note(), 602.0) is None


def test_memory_is_bounded() -> None:
    recent: Recent[int] = Recent(limit=2)
    for key in "ab":
        recent.put(key, 1)
    assert recent.get("a") == 1
    recent.put("c", 1)
    assert (recent.get("b"), recent.get("a"), len(recent)) == (None, 1, 2)


@asynccontextmanager
async def recording(
    handler: Handler,
) -> AsyncIterator[tuple[Recorder, Script, FakeTime]]:
    """Run a recorder against a scripted server."""
    clock = FakeTime()
    async with Script(handler) as script:
        wire = wire_to(script.url, clock)
        recorder = Recorder(Client(wire), "pyproxy", "host")
        task = asyncio.create_task(recorder.run())
        try:
            yield recorder, script, clock
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await wire.close()


async def accept(asked: Asked, answer: Answer) -> None:
    """Take everything."""
    await answer.document(json.loads(asked.body))


async def test_event_is_created_and_then_patched() -> None:
    async with recording(accept) as (recorder, script, clock):
        recorder.event(ABOUT, "Warning", "Bad", "it is")
        await recorder.flushed()
        await clock.advance(10)
        recorder.event(ABOUT, "Warning", "Bad", "it is")
        await recorder.flushed()
    created, patched = script.asked
    made = json.loads(created.body)
    name = made["metadata"]["name"]
    assert created.method == "POST"
    assert created.path == "/api/v1/namespaces/default/events"
    assert made == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {
            "kind": "Service",
            "namespace": "default",
            "name": "s",
            "uid": "u",
        },
        "type": "Warning",
        "reason": "Bad",
        "message": "it is",
        "source": {"component": "pyproxy", "host": "host"},
        "firstTimestamp": "1970-01-12T13:46:40Z",
        "lastTimestamp": "1970-01-12T13:46:40Z",
        "count": 1,
        "reportingComponent": "pyproxy",
        "reportingInstance": "host",
    }
    assert (patched.method, patched.path) == ("PATCH", f"{created.path}/{name}")
    assert json.loads(patched.body) == {
        "count": 2,
        "message": "it is",
        "lastTimestamp": "1970-01-12T13:46:50Z",
    }


async def test_event_that_is_gone_is_created_anew_with_its_count() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        if asked.method == "PATCH":
            await answer.document(status(404, "NotFound"), 404)
        else:
            await accept(asked, answer)

    async with recording(serve) as (recorder, script, clock):
        for _ in range(2):
            recorder.event(ABOUT, "Normal", "R", "m")
            await recorder.flushed()
            await clock.advance(1)
    first, _, second = (json.loads(each.body) for each in script.asked)
    assert (first["count"], second["count"]) == (1, 2)
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert not recorder.dropped


async def test_server_in_trouble_is_tried_again_and_the_event_is_one() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        if len(script.asked) == 1:
            answer.cut()  # and yet it has created it
        elif len(script.asked) == 2:
            await answer.document(status(503, "ServiceUnavailable"), 503)
        else:
            await answer.document(status(409, "AlreadyExists"), 409)

    async with recording(serve) as (recorder, script, clock):
        recorder.event(ABOUT, "Normal", "R", "m")
        for number in (1, 2):
            await until(lambda n=number: len(clock.slept) >= n)  # type: ignore[misc]
            await clock.advance(clock.slept[-1])
        await recorder.flushed()
    assert len({each.body for each in script.asked}) == 1
    assert not recorder.dropped


async def test_refused_event_is_dropped_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.document(status(403, "Forbidden"), 403)

    async with recording(serve) as (recorder, script, _):
        for name in "abc":
            about = ObjectReference(kind="Service", namespace="x", name=name)
            recorder.event(about, "Normal", "R", "m")
        await recorder.flushed()
    assert recorder.dropped == {"not delivered": 3}
    assert len(script.asked) == 3
    assert caplog.messages == ["event not delivered"]


async def test_event_that_cannot_be_delivered_is_given_up() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        await answer.document(status(500, "InternalError"), 500)

    async with recording(serve) as (recorder, script, clock):
        recorder.event(ABOUT, "Normal", "R", "m")
        for number in range(1, 12):
            await until(lambda n=number: len(clock.slept) >= n)  # type: ignore[misc]
            await clock.advance(clock.slept[-1])
        await recorder.flushed()
    assert len(script.asked) == 12
    assert recorder.dropped == {"not delivered": 1}


async def test_caller_never_waits_and_the_queue_is_bounded() -> None:
    async def serve(asked: Asked, answer: Answer) -> None:
        await asyncio.Event().wait()

    async with recording(serve) as (recorder, _, _):
        for number in range(5000):
            about = ObjectReference(kind="Service", name=str(number))
            recorder.event(about, "Normal", "R", "m")
        assert recorder.dropped == {"queue full": 4000}


async def test_chatty_object_is_cut_short() -> None:
    async with recording(accept) as (recorder, script, _):
        for _ in range(100):
            recorder.event(ABOUT, "Normal", "R", "m")
        await recorder.flushed()
    assert recorder.dropped == {"too many": 75}
    assert len(script.asked) == 25


async def test_api_server_takes_events(issuer: Authority) -> None:
    async with sandbox(issuer) as (_, client):
        service = Service(metadata=ObjectMeta(name="s", namespace="default", uid="u"))
        recorder = Recorder(client, "pyproxy")
        task = asyncio.create_task(recorder.run())
        for message in ("one", "two", "one"):
            recorder.event(reference(SERVICES, service), "Normal", "R", message)
        recorder.event(ObjectReference(kind="Node", name="n"), "Normal", "R", "m")
        await recorder.flushed()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        found = await client.list(EVENTS, "default")
        counts = {(e.involved_object.name, e.message): e.count for e in found}
        assert counts == {("s", "one"): 2, ("s", "two"): 1, ("n", "m"): 1}
        assert not recorder.dropped
