"""Objects of one kind as they are, and the handlers that are told of changes.

Handlers mark keys and never act: the code that reconciles reads the store, not the
event, so that it does not matter how many events were missed or came at once. What a
handler raises is a bug of it; it is logged and the store goes on.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from pyproxy.kube.objects import Object

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)
T_contra = TypeVar("T_contra", bound=Object, contravariant=True)

ObjectKey = str  # "namespace/name"; "name" where there is no namespace
Index = Callable[[T], Iterable[Hashable]]


class Handler(Protocol[T_contra]):
    """Is told what changed; must not wait, and must not raise."""

    def on_upsert(self, key: ObjectKey, old: T_contra | None, new: T_contra) -> None:
        """Learn of a new object, or of a new version of one."""

    def on_delete(self, key: ObjectKey, last: T_contra) -> None:
        """Learn that an object has gone; `last` is how it was last seen."""

    def on_synced(self) -> None:
        """Learn that everything there was is in the store now."""


class Store(Generic[T]):
    """Objects by key, and by whatever the indexes make of them."""

    def __init__(self, indexes: Mapping[str, Index[T]] | None = None) -> None:
        self._objects: dict[ObjectKey, T] = {}
        self._handlers: list[Handler[T]] = []
        self._indexes = dict(indexes or {})
        # index -> value -> keys of the objects it is of, in order (values are None)
        self._indexed: dict[str, dict[Hashable, dict[ObjectKey, None]]] = {
            name: {} for name in self._indexes
        }
        self._synced = asyncio.Event()

    @property
    def objects(self) -> Mapping[ObjectKey, T]:
        """Everything that is there; a view, not a copy."""
        return MappingProxyType(self._objects)

    def get(self, key: ObjectKey) -> T | None:
        """Return one object."""
        return self._objects.get(key)

    def __len__(self) -> int:
        return len(self._objects)

    def by(self, index: str, value: Hashable) -> list[T]:
        """Return the objects for which the index yields the value."""
        return [self._objects[key] for key in self._indexed[index].get(value, ())]

    @property
    def is_synced(self) -> bool:
        """Whether a whole list has been taken over at least once."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        """Return when it is synced."""
        await self._synced.wait()

    def add_handler(self, handler: Handler[T]) -> None:
        """Tell it of everything that is there, and of every change from now on."""
        self._handlers.append(handler)
        for key, each in list(self._objects.items()):
            with _bugs("on_upsert", key):
                handler.on_upsert(key, None, each)
        if self.is_synced:
            with _bugs("on_synced"):
                handler.on_synced()

    def upsert(self, new: T) -> None:
        """Take an object. The version that is there already causes no event."""
        key = new.key
        old = self._objects.get(key)
        if old is not None and _same(old, new):
            return
        self._objects[key] = new
        for name, index in self._indexes.items():
            self._reindex(name, index, key, old, new)
        for handler in self._handlers:
            with _bugs("on_upsert", key):
                handler.on_upsert(key, old, new)

    def delete(self, key: ObjectKey) -> None:
        """Let an object go; one that is not there causes no event."""
        last = self._objects.pop(key, None)
        if last is None:
            return
        for name, index in self._indexes.items():
            self._reindex(name, index, key, last, None)
        for handler in self._handlers:
            with _bugs("on_delete", key):
                handler.on_delete(key, last)

    def replace(self) -> "Replacement[T]":
        """Begin to take over a whole list."""
        return Replacement(self)

    def mark_synced(self) -> None:
        """Tell all handlers once that a whole list is there."""
        if self._synced.is_set():
            return
        self._synced.set()
        for handler in self._handlers:
            with _bugs("on_synced"):
                handler.on_synced()

    def _reindex(
        self, name: str, index: Index[T], key: ObjectKey, old: T | None, new: T | None
    ) -> None:
        before = tuple(index(old)) if old is not None else ()
        after = tuple(index(new)) if new is not None else ()
        if before == after:
            return
        values = self._indexed[name]
        for value in before:
            if value not in after and (keys := values.get(value)):
                keys.pop(key, None)
                if not keys:
                    del values[value]  # or it grows with everything that ever was
        for value in after:
            values.setdefault(value, {})[key] = None


class Replacement(Generic[T]):
    """A whole list on its way into a store.

    Objects are taken over as they come, what is not on the list goes at its end; so a
    list that breaks off has done no harm, and none is ever held twice.
    """

    def __init__(self, store: Store[T]) -> None:
        self._store = store
        self._kept: set[ObjectKey] = set()

    def take(self, new: T) -> None:
        """Take an object of the list."""
        self._kept.add(new.key)
        self._store.upsert(new)

    def keep(self, key: ObjectKey) -> None:
        """Leave an object as it is: it is on the list and cannot be read."""
        self._kept.add(key)

    def finish(self) -> None:
        """Let go of what is not on the list."""
        for key in self._store.objects.keys() - self._kept:
            self._store.delete(key)
        self._store.mark_synced()


def _same(old: Object, new: Object) -> bool:
    a, b = old.metadata, new.metadata
    return a.resource_version == b.resource_version != "" and a.uid == b.uid


@contextlib.contextmanager
def _bugs(call: str, key: ObjectKey = "") -> Iterator[None]:
    try:
        yield
    except Exception:
        extra = {"call": call, "key": key, "bug": True}
        logger.exception("handler failed", extra=extra)
