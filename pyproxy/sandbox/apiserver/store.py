"""Objects in memory, with revisions and what has happened to them.

What etcd and the watch cache are to kube-apiserver. Objects in here are never changed
in place: a change puts in a new dict. So lists, histories and watchers may
share them.
"""

import asyncio
import bisect
from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from pyproxy.sandbox.apiserver.kinds import Resource
from pyproxy.sandbox.apiserver.schema import Object

Key = tuple[str, str]  # namespace and name; "" for what has no namespace
KEPT_CHANGES = 10_000  # per resource; when there are more, the older half is forgotten


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened to one object."""

    revision: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    key: Key
    new: Object | None  # None when deleted
    old: Object | None  # None when added

    @property
    def object(self) -> Object:
        """The object as it was left; a deleted one carries the revision of its end."""
        if self.new is not None:
            return self.new
        assert self.old is not None
        return with_revision(self.old, self.revision)


def with_revision(found: Object, revision: int) -> Object:
    """Return a copy that carries another resourceVersion."""
    metadata = {**found["metadata"], "resourceVersion": str(revision)}
    return {**found, "metadata": metadata}


class Shelf:
    """All objects of one resource, and their history."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.changes: list[Change] = []
        self.forgotten = 0  # nobody may ask for what was before this revision
        self.dropped = 0  # of the last change that is not known any more
        self._news = asyncio.Event()

    def record(self, change: Change) -> None:
        """Do what the change says and wake the watchers."""
        if change.new is None:
            del self.objects[change.key]
        else:
            self.objects[change.key] = change.new
        self.changes.append(change)
        if len(self.changes) > KEPT_CHANGES:
            self.forget(self.changes[KEPT_CHANGES // 2].revision)
        self._news.set()
        self._news = asyncio.Event()

    def forget(self, revision: int) -> None:
        """Drop the history up to a revision."""
        count = self._after(revision)
        if count:
            self.dropped = self.changes[count - 1].revision
        del self.changes[:count]
        self.forgotten = max(self.forgotten, revision)

    def since(self, revision: int) -> list[Change]:
        """Return what happened after a revision."""
        return self.changes[self._after(revision) :]

    def at(self, revision: int) -> dict[Key, Object]:
        """Return all objects as they were at a revision that is not forgotten."""
        found = dict(self.objects)
        for change in reversed(self.since(revision)):
            if change.old is None:
                del found[change.key]
            else:
                found[change.key] = change.old
        return found

    async def news(self) -> None:
        """Wait for the next change."""
        await self._news.wait()

    def _after(self, revision: int) -> int:
        return bisect.bisect_right(self.changes, revision, key=lambda c: c.revision)


class Store:
    """Every object, under one count of revisions."""

    def __init__(self) -> None:
        self.revision = 1
        self._shelves: defaultdict[str, Shelf] = defaultdict(Shelf)

    def shelf(self, resource: Resource) -> Shelf:
        """Return what is kept of one resource."""
        return self._shelves[f"{resource.plural}.{resource.group}"]

    def get(self, resource: Resource, key: Key) -> Object | None:
        """Return one object."""
        return self.shelf(resource).objects.get(key)

    def put(self, resource: Resource, key: Key, made: Object) -> Object:
        """Add or replace one; return it with its new resourceVersion."""
        self.revision += 1
        made = with_revision(made, self.revision)
        old = self.get(resource, key)
        what: Literal["ADDED", "MODIFIED"] = "ADDED" if old is None else "MODIFIED"
        self.shelf(resource).record(Change(self.revision, what, key, made, old))
        return made

    def remove(self, resource: Resource, key: Key) -> Object:
        """Remove one; return it as its watchers see its end."""
        self.revision += 1
        change = Change(self.revision, "DELETED", key, None, self.get(resource, key))
        self.shelf(resource).record(change)
        return change.object

    def compact(self) -> None:
        """Forget all history, as etcd does every five minutes."""
        for shelf in self._shelves.values():
            shelf.forget(self.revision)
