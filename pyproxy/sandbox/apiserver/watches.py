"""Watches: a line of JSON for each change, until the client or its timeout ends it."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from pyproxy.sandbox.apiserver.cluster import Call, Cluster
from pyproxy.sandbox.apiserver.media import Shape, encoded
from pyproxy.sandbox.apiserver.reads import (
    parsed_number,
    parsed_revision,
    shaped,
    streaming_refusal,
)
from pyproxy.sandbox.apiserver.refusal import expired
from pyproxy.sandbox.apiserver.route import is_true
from pyproxy.sandbox.apiserver.schema import Object
from pyproxy.sandbox.apiserver.selectors import Predicate, selector
from pyproxy.sandbox.apiserver.store import Change, Shelf, with_revision

INITIAL_END = "k8s.io/initial-events-end"
BOOKMARK_EVERY_S = 60.0
BOOKMARK_BEFORE_END_S = 2.0
LONGEST_S = 1800.0  # kube-apiserver takes between this and its double


@dataclass(slots=True)
class Watch:
    """One watch; `lines` is what to send."""

    cluster: Cluster
    call: Call
    shape: Shape
    revision: int = 0  # what was sent, or need not be
    _accepts: Predicate = field(init=False)
    _shelf: Shelf = field(init=False)
    _deadline: float = field(init=False)
    _now: Callable[[], float] = field(init=False)

    def __post_init__(self) -> None:
        """Read the request.

        Raises:
            Refusal: it asks for what cannot be.
        """
        query = self.call.query
        self._accepts = selector(self.call.resource, query)
        self._shelf = self.cluster.store.shelf(self.call.resource)
        self._now = asyncio.get_running_loop().time
        asked_s = parsed_number(query.get("timeoutSeconds", ""))
        length_s = asked_s or random.uniform(LONGEST_S, 2 * LONGEST_S)
        self._deadline = self._now() + length_s * self.cluster.second
        self.revision = parsed_revision(query.get("resourceVersion", ""))
        streams_list = is_true(query, "sendInitialEvents")
        if streams_list and (refusal := streaming_refusal(self.call)):
            raise refusal

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield each event as it comes; ends at the timeout."""
        if self.revision and self.revision < self._shelf.forgotten:
            yield self._expired()
            return
        wants_all = is_true(self.call.query, "sendInitialEvents")
        if not self.revision or wants_all:
            for line in self._initial():
                yield line
            if wants_all and is_true(self.call.query, "allowWatchBookmarks"):
                yield self._bookmark({INITIAL_END: "true"})
        async for line in self._changes():
            yield line

    def _initial(self) -> Iterator[bytes]:
        """What is there already, as if it were added now."""
        self.revision = self.cluster.store.revision
        objects = self._shelf.objects
        for key in sorted(objects):
            if self._is_here(key) and self._accepts(objects[key]):
                yield self._event("ADDED", objects[key])

    async def _changes(self) -> AsyncIterator[bytes]:
        bookmark_at = self._next_bookmark()
        while True:
            if self.revision < self._shelf.dropped:
                yield self._expired()  # the client reads too slowly
                return
            if changes := self._shelf.since(self.revision):
                for change in changes:
                    self.revision = change.revision
                    if line := self._line(change):
                        yield line
                continue  # more may have come while these were sent
            wake = min(self._deadline, bookmark_at)
            try:
                async with asyncio.timeout_at(wake):
                    await self._shelf.news()
            except TimeoutError:
                if wake == self._deadline:
                    return
                self.revision = max(self.revision, self.cluster.store.revision)
                yield self._bookmark({})
                bookmark_at = self._next_bookmark()

    def _expired(self) -> bytes:
        what = (
            f"too old resource version: {self.revision} ({self.cluster.store.revision})"
        )
        return encoded({"type": "ERROR", "object": expired(what).status()})

    def _next_bookmark(self) -> float:
        if not is_true(self.call.query, "allowWatchBookmarks"):
            return self._deadline
        second = self.cluster.second
        last = self._deadline - BOOKMARK_BEFORE_END_S * second
        # A little early counts as there: the clock has moved on since it was set.
        if last - self._now() < second / 10:
            return self._deadline
        return min(last, self._now() + BOOKMARK_EVERY_S * second)

    def _is_here(self, key: tuple[str, str]) -> bool:
        target = self.call.target
        if not self.call.resource.is_namespaced or not target.namespace:
            return not target.name or key[1] == target.name
        return key[0] == target.namespace and target.name in ("", key[1])

    def _line(self, change: Change) -> bytes:
        """The event for a change; what leaves the selection is deleted from it."""
        if not self._is_here(change.key):
            return b""
        was = change.old is not None and self._accepts(change.old)
        is_in = change.new is not None and self._accepts(change.new)
        if change.new is not None and is_in:
            return self._event("MODIFIED" if was else "ADDED", change.new)
        if was and change.old is not None:
            return self._event("DELETED", with_revision(change.old, change.revision))
        return b""

    def _event(self, kind: str, item: Object) -> bytes:
        return encoded({"type": kind, "object": shaped(self.call, item, self.shape)})

    def _bookmark(self, annotations: Object) -> bytes:
        resource = self.call.resource
        metadata: Object = {"resourceVersion": str(self.revision)}
        if annotations:
            metadata["annotations"] = annotations
        blank = resource.type.zero() | {"metadata": metadata}
        item = {"kind": resource.kind, "apiVersion": resource.api_version, **blank}
        return self._event("BOOKMARK", item)
