"""One list and one watch: typed objects out of one response each.

What to do when one ends is not decided here: see `reflector`.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

import aiohttp
import msgspec

from pyproxy.kube.errors import KubeError
from pyproxy.kube.objects import ListMeta, Object, Status
from pyproxy.kube.resource import Change, Resource
from pyproxy.kube.splitting import LineReader, ListReader, MalformedError, Unread
from pyproxy.kube.turns import Turns
from pyproxy.kube.wire import Wire, error_of, malformed

T = TypeVar("T", bound=Object)

ALL_THERE = "k8s.io/initial-events-end"  # annotation of a bookmark


class StalledError(KubeError):
    """Nothing came for too long over a connection that looks alive."""


@dataclass(frozen=True, slots=True)
class Selection(Generic[T]):
    """Which objects: of a kind, in a namespace, with labels and fields."""

    resource: Resource[T]
    namespace: str = ""
    labels: str = ""
    fields: str = ""

    @property
    def path(self) -> str:
        """Where they are."""
        return self.resource.path(self.namespace)

    def params(self, **more: str) -> dict[str, str]:
        """Return the query; what is empty is left out."""
        every = {"labelSelector": self.labels, "fieldSelector": self.fields, **more}
        return {name: value for name, value in every.items() if value}


@dataclass(frozen=True, slots=True)
class Misfit:
    """A change to an object that could not be read."""

    type: str
    unread: Unread


async def pages(
    wire: Wire, selection: Selection[T], limit: int, quiet_s: float
) -> AsyncGenerator[T | Unread | ListMeta, None]:
    """Yield all objects in pages, and after each page what it says of itself.

    Without a resourceVersion, so that no list is older than what we know already: a
    cache that lags behind must not take us back. Each object must come within
    `quiet_s` of the last one. Raise KubeError.
    """
    token = ""
    while True:
        params = {"continue": token, "limit": str(limit) if limit else ""}
        page = _page(wire, selection, selection.params(**params), quiet_s)
        async with aclosing(page):
            async for found in page:
                yield found
        assert isinstance(found, ListMeta), "a page ends with it"
        token = found.continue_
        if not token:
            return


async def _page(
    wire: Wire, selection: Selection[T], params: dict[str, str], quiet_s: float
) -> AsyncGenerator[T | Unread | ListMeta, None]:
    doing, clock, turns = f"list {selection.path}", wire.clock, Turns()
    reader = ListReader(selection.resource)
    async with wire.stream("GET", selection.path, params) as response:
        ends_at = clock.monotonic() + quiet_s
        try:
            while True:
                async with clock.timeout(ends_at - clock.monotonic()):
                    chunk = await response.content.readany()
                if not chunk:
                    break
                turns.begin()
                for item in reader.feed(chunk):
                    yield item
                    if turns.is_over:
                        await turns.breathe()
                    ends_at = clock.monotonic() + quiet_s
            for last in reader.finish():
                yield last
        except MalformedError as error:
            raise malformed(doing, str(error)) from error


async def watch(
    wire: Wire,
    selection: Selection[T],
    version: str,
    *,
    lifetime_s: float,
    quiet_s: float,
    grace_s: float,
) -> AsyncGenerator[Change[T] | Misfit, None]:
    """Yield what changes after a version until the apiserver ends the watch.

    With no version, everything that is there comes first, as ADDED, and a bookmark ends
    it (a streaming list). Raise KubeError, StalledError where no whole line came for
    `quiet_s` or the apiserver let `lifetime_s` pass by `grace_s`.
    """
    params = _watch_params(selection, version, lifetime_s)
    doing, clock = f"watch {selection.path}", wire.clock
    ends_at = clock.monotonic() + lifetime_s + grace_s
    reader, turns = LineReader(), Turns()
    async with wire.stream("GET", selection.path, params) as response:
        while True:
            left_s = min(quiet_s, ends_at - clock.monotonic())
            try:
                async with clock.timeout(left_s):
                    lines = await _lines(reader, response.content)
            except TimeoutError as error:
                why = f"{doing}: nothing came for {quiet_s:g} s"
                raise StalledError(why, reason="Stalled") from error
            except MalformedError as error:
                raise malformed(doing, str(error)) from error
            if not lines:
                if reader.is_amid_a_line:
                    raise malformed(doing, "it ended amid a line")
                return
            turns.begin()
            for line in lines:
                yield read_line(selection.resource, line, doing)
                if turns.is_over:
                    await turns.breathe()


def _watch_params(
    selection: Selection[T], version: str, lifetime_s: float
) -> dict[str, str]:
    return selection.params(
        watch="1",
        resourceVersion=version,
        allowWatchBookmarks="true",
        timeoutSeconds=str(round(lifetime_s)),
        sendInitialEvents="" if version else "true",
        resourceVersionMatch="" if version else "NotOlderThan",
    )


async def _lines(reader: LineReader, content: aiohttp.StreamReader) -> list[bytes]:
    """Return the next complete lines; none at the end."""
    while chunk := await content.readany():
        if lines := reader.feed(chunk):
            return lines
    return []


def read_line(resource: Resource[T], line: bytes, doing: str) -> Change[T] | Misfit:
    """Return what a line of a watch says. Raise KubeError if it is an error."""
    try:
        change = resource.changes.decode(line)
        if change.type != "ERROR":
            return change
    except msgspec.ValidationError as error:
        misfit = _misfit(line, str(error), doing)
        if misfit.type != "ERROR":
            return misfit
    except msgspec.DecodeError as error:
        raise malformed(doing, f"no event: {error}") from error
    try:
        raise error_of(_fault.decode(line).object, doing)
    except msgspec.DecodeError as error:
        raise malformed(doing, f"no event: {error}") from error


class _Fault(msgspec.Struct, frozen=True):
    """A line that says why the watch ends."""

    object: Status


class _Bare(msgspec.Struct, frozen=True):
    """A line about an object of which only the metadata is as we know it."""

    type: str
    object: Object


_fault = msgspec.json.Decoder(_Fault)
_bare = msgspec.json.Decoder(_Bare)


def _misfit(line: bytes, why: str, doing: str) -> Misfit:
    try:
        bare = _bare.decode(line)
    except msgspec.DecodeError as error:
        raise malformed(doing, f"no event: {error}") from error
    return Misfit(bare.type, Unread(bare.object.metadata, why))
