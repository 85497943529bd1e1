"""What a real cluster said, replayed in any parts: the store is what was there."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyproxy.kube.objects import Object
from pyproxy.kube.reflector import Reflector
from pyproxy.kube.store import Store
from pyproxy.kube.watching import Selection
from tests.support import kube_golden as golden
from tests.support.kube_bytes import BytesWire
from tests.support.kube_server import bookmark, dumps, line

if TYPE_CHECKING:
    from pyproxy.kube.wire import Wire

# By kind: a list, and all lines of the watch after it.
LISTS = {kind: dumps(golden.lists(kind)[0]) for kind in golden.KINDS}
LINES = {
    kind: b"".join(line(each["type"], each["object"]) for each in golden.changes(kind))
    for kind in golden.KINDS
}
INITIAL = {
    kind: b"".join(line("ADDED", each) for each in golden.lists(kind)[0]["items"])
    + line("BOOKMARK", bookmark(1, ends_list=True))
    for kind in golden.KINDS
}
OUTCOMES = {kind: golden.outcome(kind) for kind in golden.KINDS}


def parts(data: bytes, sizes: list[int]) -> Iterable[bytes]:
    """Cut bytes into parts of these sizes, over and over."""
    at = number = 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        yield data[at : at + size]
        at, number = at + size, number + 1


async def follow(kind: str, sizes: list[int], *, streams: bool) -> Mapping[str, Object]:
    """Return what a reflector makes of it."""

    def answers(params: Mapping[str, str]) -> Iterable[bytes]:
        if "watch" not in params:
            return parts(LISTS[kind], sizes)
        initial = INITIAL[kind] if "sendInitialEvents" in params else b""
        return parts(initial + LINES[kind], sizes)

    wire = BytesWire(answers)
    store: Store[Any] = Store()
    selection = Selection(golden.KINDS[kind])
    reflector = Reflector(cast("Wire", wire), selection, store)
    reflector._streams_lists = streams
    task = asyncio.create_task(reflector.run())
    try:
        await asyncio.wait_for(wire.idle.wait(), 20)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert wire.clock.slept == []
    return dict(store.objects)


@pytest.mark.parametrize("streams", [True, False], ids=["streaming", "pages"])
@pytest.mark.parametrize("kind", golden.KINDS)
async def test_golden_watch_ends_with_what_was_there(kind: str, streams: bool) -> None:
    assert await follow(kind, [16_384], streams=streams) == OUTCOMES[kind]


@given(
    kind=st.sampled_from(["services", "nodes", "servicecidrs"]),
    sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=8),
    streams=st.booleans(),
)
@settings(max_examples=40)
def test_golden_bytes_cut_anywhere_give_the_same_store(
    kind: str, sizes: list[int], streams: bool
) -> None:
    sizes = [*sizes, 3000]  # or a thousand parts of one byte are a test of patience
    assert asyncio.run(follow(kind, sizes, streams=streams)) == OUTCOMES[kind]
