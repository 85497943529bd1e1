"""Which endpoints take the traffic of a port: merged out of slices, then chosen.

Source: kubernetes, pkg/proxy/endpointslicecache.go and topology.go (1.36). Where two
slices have one address, one copy is chosen in the same way whatever the order in which
they came: the local one, then the one that can take more.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pyproxy.discovery.services.families import Family
from pyproxy.discovery.services.here import Here
from pyproxy.kube.slices import READY, SERVING, STRANGER, TERMINATING, BriefSlice, Row
from pyproxy.model import Key

Group: TypeAlias = tuple[str, str, str]  # name and protocol of a port, kind of address
Part: TypeAlias = tuple[int, Sequence[Row]]  # number of the port, who offers it
Merged: TypeAlias = Mapping[Key, Row]
Mode: TypeAlias = Literal["", "same-node", "same-zone"]

LEAVING = SERVING | TERMINATING


@dataclass(frozen=True, slots=True)
class Usable:
    """What a port of a Service can use from here, sorted."""

    cluster: Sequence[Key]  # () where no traffic may leave the node
    local: Sequence[Key]  # () where no policy is Local
    has_any: bool  # somewhere in the cluster
    mode: Mode = ""  # what narrowed `cluster` down


NOTHING = Usable((), (), False)


def groups(slices: Iterable[BriefSlice]) -> dict[Group, list[Part]]:
    """Sort the endpoints of a Service by the ports that they are of."""
    found: dict[Group, list[Part]] = {}
    for each in slices:
        for port in each.ports:
            # No name, or "all ports": no proxy makes anything of that.
            if port.name is not None and port.port:
                group = (port.name, port.protocol, each.address_type)
                part = (port.port, each.endpoints)
                found.setdefault(group, []).append(part)
    return found


def merge(parts: Iterable[Part], here: str) -> dict[Key, Row]:
    """Return each endpoint once; strangers are left out."""
    merged: dict[Key, Row] = {}
    for port, rows in parts:
        fresh = {(row[0], port): row for row in rows if row[1] < STRANGER}
        if len(fresh) == len(rows) and merged.keys().isdisjoint(fresh):
            merged.update(fresh)
            continue
        for row in rows:
            if row[1] < STRANGER:
                key = (row[0], port)
                known = merged.setdefault(key, row)
                if known is not row and _rank(row, here) > _rank(known, here):
                    merged[key] = row
    return merged


def strangers(parts: Iterable[Part], family: Family) -> list[str]:
    """Complain of what `merge` leaves out, once for all."""
    wrong = sorted({row[0] for _, rows in parts for row in rows if row[1] & STRANGER})
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return [f"endpoint {wrong[0]!r}{more}: not {family}"] if wrong else []


def _rank(row: Row, here: str) -> tuple[bool, bool, bool, bool, Row]:
    state = row[1]
    is_leaving = state & LEAVING == LEAVING
    # The row itself, so that of two equals it does not matter which came first.
    return row[2] == here, bool(state & READY), is_leaving, bool(state & SERVING), row


def choose(merged: Merged, here: Here, *, cluster: bool, local: bool) -> Usable:
    """Return what is used, of the sets that are asked for."""
    if not merged:
        return NOTHING
    ready = [key for key, row in merged.items() if row[1] & READY]
    leaving = _leaving(merged) if not ready or local else []
    mode: Mode = ""
    used: Sequence[Key] = ()
    if cluster:
        mode = _mode(merged, ready, here)
        used = sorted(_near(merged, ready, here, mode) or leaving)
    mine: Sequence[Key] = ()
    if local:
        name = here.name
        mine = [key for key in ready if merged[key][2] == name]
        mine = sorted(mine or [key for key in leaving if merged[key][2] == name])
    return Usable(used, mine, bool(ready or leaving), mode)


def _leaving(merged: Merged) -> list[Key]:
    """Return the endpoints that end soon and still serve."""
    return [
        key
        for key, row in merged.items()
        if row[1] & LEAVING == LEAVING and not row[1] & READY
    ]


def _mode(merged: Merged, ready: Sequence[Key], here: Here) -> Mode:
    """Return what hints ask for: one endpoint without a hint, and they do not count."""
    rows = [merged[key] for key in ready]
    if all(row[4] for row in rows) and any(here.name in row[4] for row in rows):
        return "same-node"
    if all(row[3] for row in rows) and any(here.zone in row[3] for row in rows):
        return "same-zone"
    return ""


def _near(
    merged: Merged, ready: Sequence[Key], here: Here, mode: Mode
) -> Sequence[Key]:
    if not mode:
        return ready
    if mode == "same-node":
        return [key for key in ready if here.name in merged[key][4]]
    return [key for key in ready if here.zone in merged[key][3]]


def ready_here(parts: Iterable[Merged], here: str) -> int:
    """Count the addresses of ready endpoints on this node, over all ports."""
    return len(
        {
            key[0]
            for merged in parts
            for key, row in merged.items()
            if row[1] & READY and row[2] == here
        }
    )
