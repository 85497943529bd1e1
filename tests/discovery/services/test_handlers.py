"""What stores tell handlers, and what handlers make of it."""

from collections.abc import Callable

from pyproxy.discovery.services import (
    BY_SERVICE,
    ServiceHandler,
    ServiceTable,
    SliceHandler,
    by_service,
    here_of,
)
from pyproxy.kube.objects import Service
from pyproxy.kube.slices import BriefSlice
from pyproxy.kube.store import Store
from tests.support.services_rig import NODE_IPS, USUAL, endpoint, service, slice_of

KEY = "ns/a"


class Stores:
    """Two stores, a table, and what the handlers call back for."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.services = Store[Service]()
        self.slices = Store[BriefSlice]({BY_SERVICE: by_service})
        here = here_of(USUAL, None, NODE_IPS)
        table = ServiceTable(self.services, self.slices, USUAL, here)
        self.table = table
        mark = self.note("mark")
        services = ServiceHandler(table, mark, self.note("services synced"))
        slices = SliceHandler(table, mark, self.note("slices synced"))
        self.services.add_handler(services)
        self.slices.add_handler(slices)

    def note(self, what: str) -> Callable[[], None]:
        """Return what writes a call down."""
        return lambda: self.calls.append(what)

    def told(self) -> list[str]:
        """Return the calls since the last time."""
        calls, self.calls[:] = [*self.calls], []
        return calls


def test_each_change_that_counts_is_a_mark() -> None:
    stores = Stores()
    stores.services.upsert(service(KEY, "172.30.0.1"))
    assert stores.told() == ["mark"]
    stores.services.upsert(service(KEY, "172.30.0.1"))
    assert stores.told() == []
    stores.slices.upsert(slice_of(KEY, endpoint("10.0.0.1")))
    assert stores.told() == ["mark"]
    stores.slices.upsert(slice_of(KEY, endpoint("10.0.0.1")))
    assert stores.told() == []
    other = {"kubernetes.io/service-name": "b"}
    stores.slices.upsert(slice_of(KEY, endpoint("10.0.0.1"), labels=other))
    assert stores.told() == ["mark", "mark"]
    stores.slices.delete("ns/a-1")
    stores.services.delete(KEY)
    assert stores.told() == ["mark", "mark"]


def test_lists_that_are_whole_are_told_once_each() -> None:
    stores = Stores()
    for _ in range(2):
        services, slices = stores.services.replace(), stores.slices.replace()
        services.take(service(KEY, "172.30.0.1"))
        services.finish()
        slices.finish()
    assert stores.told() == ["mark", "services synced", "slices synced"]


def test_a_new_list_without_a_service_takes_it_away() -> None:
    stores = Stores()
    stores.services.upsert(service(KEY, "172.30.0.1"))
    stores.slices.upsert(slice_of(KEY, endpoint("10.0.0.1")))
    assert len(stores.table.take().vips) == 1
    stores.services.replace().finish()
    assert len(stores.table.take().remove_vips) == 1


def test_a_handler_that_comes_late_marks_all() -> None:
    stores = Stores()
    stores.services.upsert(service(KEY, "172.30.0.1"))
    table = ServiceTable(stores.services, stores.slices, USUAL, stores.table.here)
    stores.services.add_handler(ServiceHandler(table))
    assert [front.host for front in table.take().fronts] == ["172.30.0.1"]
