"""The life of a real cluster as one of its nodes sees it, phase by phase, as tables.

    python -m tests.support.services_golden

prints what `tests/discovery/services/golden_tables.txt` says, as it would be now. The
file was read against the recording before it was committed: so must a change of it be.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyproxy.discovery.services import (
    BY_SERVICE,
    Delta,
    Options,
    ServiceHandler,
    ServiceTable,
    Settings,
    SliceHandler,
    Table,
    by_service,
    here_of,
)
from pyproxy.kube.objects import ListMeta
from pyproxy.kube.resource import NODES, SERVICE_CIDRS, SERVICES, Change, Resource
from pyproxy.kube.slices import BRIEF_SLICES
from pyproxy.kube.splitting import ListReader, Unread
from pyproxy.kube.store import Store
from pyproxy.kube.watching import read_line
from pyproxy.model import Front, Vip, VipKey, format_address
from tests.support.kube_golden import records
from tests.support.kube_server import dumps

NODE = "knode0"
TABLES = Path(__file__).parents[1] / "discovery" / "services" / "golden_tables.txt"
KINDS: dict[str, Resource[Any]] = {
    each.plural: each for each in (SERVICES, BRIEF_SLICES, NODES, SERVICE_CIDRS)
}
SETTINGS = Settings(NODE, detect_local="node-cidr", external_ips=True)


class Replay:
    """A node that follows the recording."""

    def __init__(self) -> None:
        self.stores: dict[str, Store[Any]] = {kind: Store() for kind in KINDS}
        self.stores["endpointslices"] = Store({BY_SERVICE: by_service})
        self.table = self.new_table()
        self.stores["services"].add_handler(ServiceHandler(self.table))
        self.stores["endpointslices"].add_handler(SliceHandler(self.table))

    def new_table(self) -> ServiceTable:
        """Return a table over the stores that has seen nothing yet."""
        here = here_of(SETTINGS, self.stores["nodes"].get(NODE), ())
        stores = self.stores["services"], self.stores["endpointslices"]
        table = ServiceTable(*stores, SETTINGS, here)
        table.set_blocks(self.stores["servicecidrs"].objects.values())
        return table

    def rebuilt(self) -> Table:
        """Return the table as one that begins now makes it."""
        table = self.new_table()
        table.mark_all()
        table.take()
        return table.whole()

    def take(self, record: dict[str, Any]) -> None:
        """Take a list or a line of a watch, as bytes."""
        kind = record["kind"]
        if kind not in KINDS:
            return
        store, resource = self.stores[kind], KINDS[kind]
        if "list" in record:
            reader, replacement = ListReader(resource), store.replace()
            data = dumps(record["list"])
            for each in [*reader.feed(data), *reader.finish()]:
                assert not isinstance(each, Unread)
                if not isinstance(each, ListMeta):
                    replacement.take(each)
            replacement.finish()
        elif record["watch"]["type"] != "BOOKMARK":
            change = read_line(resource, dumps(record["watch"]), "")
            assert isinstance(change, Change)
            if change.type == "DELETED":
                store.delete(change.object.key)
            else:
                store.upsert(change.object)
        if kind == "nodes":
            self.table.set_here(here_of(SETTINGS, store.get(NODE), ()))
        if kind == "servicecidrs":
            self.table.set_blocks(store.objects.values())

    def phases(self) -> Iterator[tuple[str, list[Delta]]]:
        """Yield each phase with the deltas of its lines, line by line."""
        phase, deltas = "start", list[Delta]()
        for record in records("services-and-slices"):
            if record["phase"] != phase:
                yield phase, deltas
                phase, deltas = record["phase"], []
            self.take(record)
            deltas.append(self.table.take())
        yield phase, deltas


def added(table: Table, delta: Delta) -> Table:
    """Return the table that a delta leads to."""
    return Table(
        vips=_without(table.vips, delta.remove_vips) | _by_key(delta.vips),
        fronts=_without(table.fronts, delta.remove_fronts) | _by_key(delta.fronts),
        pools=_without(table.pools, delta.remove_pools)
        | {each.name: each for each in delta.pools},
        health=_set({**table.health, **delta.health}),
        cluster_ips=table.cluster_ips - {*delta.remove_cluster_ips}
        | {*delta.cluster_ips},
        blocks=table.blocks if delta.blocks is None else delta.blocks,
        options=_set({**table.options, **delta.options}),
        complaints=_set({**table.complaints, **delta.complaints}),
    )


def _without(what: Any, names: Any) -> dict[Any, Any]:
    for name in names:
        assert name in what, "only what is there goes"
    return {key: each for key, each in what.items() if key not in names}


def _by_key(found: tuple[Any, ...]) -> dict[VipKey, Any]:
    return {each.key: each for each in found}


def _set(what: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in what.items() if each and each != Options()}


def shown(table: Table) -> list[str]:
    """Return a table as lines."""
    vips, health = table.vips, table.health.items()
    lines = [_address(front, vips.get(key)) for key, front in table.fronts.items()]
    lines += [
        f"{name} = {' '.join(format_address(*b.key) for b in pool.backends) or '-'}"
        f"{f' for {pool.affinity_s:g} s' if pool.affinity_s else ''}"
        for name, pool in table.pools.items()
    ]
    lines += [f"health {key} {each.port}: {each.endpoints}" for key, each in health]
    lines += [f"! {key}: {c}" for key, said in table.complaints.items() for c in said]
    lines += [f"cluster IP {each}" for each in table.cluster_ips]
    lines += [f"block {each}" for each in table.blocks]
    return sorted(lines)


def _address(front: Front, vip: Vip | None) -> str:
    where = f"{front.protocol} {format_address(front.host, front.port)}"
    access = front.near if front.near == front.far else f"{front.near}/{front.far}"
    sources = "" if front.sources is None else f" from {','.join(front.sources)}"
    if vip is None:
        return f"{where} {access}{sources}"
    near = f" near {vip.near_pool.name}" if vip.near_pool else ""
    return f"{where} {access}{sources} -> {vip.pool.name}{near} keeps {vip.keep_source}"


def tables() -> str:
    """Return each phase, and what is otherwise than at the end of the one before."""
    replay, before, text = Replay(), list[str](), ""
    for phase, _ in replay.phases():
        now = shown(replay.table.whole())
        gone = [f"- {line}\n" for line in before if line not in now]
        come = [f"+ {line}\n" for line in now if line not in before]
        text += f"{phase}\n{''.join(gone + come)}"
        before = now
    return text


if __name__ == "__main__":
    print(tables(), end="")  # noqa: T201
