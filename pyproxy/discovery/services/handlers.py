"""What stores tell a table: which Services are marked, and when nothing is.

Source: kubernetes, pkg/proxy/config and endpointschangetracker.go (1.36).
"""

from collections.abc import Callable
from typing import Protocol

from pyproxy.kube.objects import Service
from pyproxy.kube.slices import BriefSlice

Nothing = Callable[[], None]


def _nothing() -> None:
    """Do it."""


class Marks(Protocol):
    """Whoever is told: a table, or whoever knows which one is in use."""

    def mark(self, key: str, changed_at: str = "") -> None:
        """Note that a Service, or a slice of it, is not what it was."""


class ServiceHandler:
    """Marks Services that changed in what we read."""

    def __init__(
        self,
        table: Marks,
        on_mark: Nothing = _nothing,
        on_sync: Nothing = _nothing,
    ) -> None:
        """`on_mark` is called after each mark, `on_sync` once, when all are there."""
        self._table, self._on_mark, self.on_synced = table, on_mark, on_sync

    def on_upsert(self, key: str, old: Service | None, new: Service) -> None:
        """Mark it unless it says the same."""
        if old is None or old != new:
            self._table.mark(key)
            self._on_mark()

    def on_delete(self, key: str, last: Service) -> None:
        """Mark it."""
        self._table.mark(key)
        self._on_mark()


class SliceHandler:
    """Marks the Services whose slices changed."""

    def __init__(
        self,
        table: Marks,
        on_mark: Nothing = _nothing,
        on_sync: Nothing = _nothing,
    ) -> None:
        """As for Services."""
        self._table, self._on_mark, self.on_synced = table, on_mark, on_sync

    def on_upsert(self, key: str, old: BriefSlice | None, new: BriefSlice) -> None:
        """Mark the Service that it is of, and the one that it was of."""
        if old is not None and _same(old, new):
            return
        changed_at = new.changed_at
        if old is not None:
            if changed_at == old.changed_at:
                changed_at = ""  # told already
            self._mark(old.service if old.service != new.service else "")
        self._mark(new.service, changed_at)

    def on_delete(self, key: str, last: BriefSlice) -> None:
        """Mark the Service that it was of."""
        self._mark(last.service)

    def _mark(self, service: str, changed_at: str = "") -> None:
        if service:
            self._table.mark(service, changed_at)
            self._on_mark()


def _same(old: BriefSlice, new: BriefSlice) -> bool:
    """Whether nothing changed that counts; annotations do not."""
    return (
        old.endpoints == new.endpoints
        and old.ports == new.ports
        and old.address_type == new.address_type
        and old.metadata.labels == new.metadata.labels
    )
