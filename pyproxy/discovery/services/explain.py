"""What is done with one Service, and why: for a user who asks.

Worked out anew from the stores with the functions that build the table, so that it
cannot say anything else than what is done.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyproxy.discovery.services.build import (
    ABSENT,
    Health,
    Made,
    build,
    ours,
    targets_of,
)
from pyproxy.discovery.services.claims import Claim, Target, claims_of
from pyproxy.discovery.services.endpoints import (
    LEAVING,
    Mode,
    groups,
    merge,
)
from pyproxy.discovery.services.here import Here
from pyproxy.discovery.services.options import USUAL, Options
from pyproxy.discovery.services.ports import PROTOCOLS, Kind
from pyproxy.discovery.services.table import BY_SERVICE, ServiceTable
from pyproxy.kube.slices import READY, SERVING, STRANGER, TERMINATING, BriefSlice, Row
from pyproxy.model import Access, KeepSource, Key


@dataclass(frozen=True, slots=True)
class Address:
    """Where clients find a port."""

    kind: Kind
    host: str
    port: int
    near: Access
    far: Access
    keep_source: KeepSource
    sources: tuple[str, ...] | None  # None = any
    why: str  # clients are refused, dropped or treated otherwise; "" = nothing to say
    taken_by: str  # a Service that has it instead; "" = this one has it


@dataclass(frozen=True, slots=True)
class Use:
    """An endpoint of a port."""

    host: str
    port: int
    slice: str
    node: str
    cluster: bool  # takes clients of policy Cluster
    local: bool  # takes clients of policy Local
    why: str  # it is used, or not


@dataclass(frozen=True, slots=True)
class Port:
    """A port in a family."""

    name: str
    protocol: str
    port: int
    family: str
    mode: Mode
    addresses: tuple[Address, ...]
    endpoints: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """All about a Service."""

    key: str
    skipped: str = ""  # why it is not served at all; nothing else is said then
    type: str = ""
    internal: str = ""  # policies
    external: str = ""
    affinity_s: float = 0.0
    options: Options = USUAL
    health: Health | None = None
    ports: tuple[Port, ...] = ()
    ignored: tuple[str, ...] = ()  # slices that are of no use, and why
    complaints: tuple[str, ...] = ()


def explain(table: ServiceTable, key: str) -> Explanation:
    """Say what is done with a Service."""
    service, here, settings = table.services.get(key), table.here, table.settings
    if service is None:
        return Explanation(key, skipped="there is no such Service")
    slices = sorted(table.slices.by(BY_SERVICE, key), key=lambda s: s.metadata.name)
    made = build(key, service, slices, here, settings, ABSENT)
    want = made.wanted
    if want is None:
        return Explanation(key, skipped=made.skipped, type=service.spec.type)
    mine = ours(slices, settings)
    targets = targets_of(key, want, groups(mine), here, [])
    return Explanation(
        key,
        type=service.spec.type,
        internal="Local" if want.internal_local else "Cluster",
        external="Local" if want.external_local else "Cluster",
        affinity_s=want.affinity_s,
        options=made.options,
        health=made.health,
        ports=tuple(_port(each, made, mine, table) for each in targets),
        ignored=tuple(_ignored(slices, mine, targets)),
        complaints=made.complaints + table.lost(key),
    )


def _port(
    target: Target, made: Made, slices: Sequence[BriefSlice], table: ServiceTable
) -> Port:
    port, here = target.port, table.here
    return Port(
        port.name,
        PROTOCOLS[port.protocol],
        port.port,
        target.face.family,
        target.usable.mode,
        tuple(_addresses(target, made, table)),
        tuple(_uses(target, slices, here)),
    )


def _addresses(target: Target, made: Made, table: ServiceTable) -> Iterator[Address]:
    assert made.wanted is not None
    claims = claims_of((target,), made.wanted, table.here, table.settings, {})
    for address, claim in claims.items():
        front, vip = claim.front, claim.vip
        yield Address(
            claim.kind,
            front.host,
            front.port,
            front.near,
            front.far,
            vip.keep_source if vip is not None else "none",
            front.sources,
            _why_not_served(claim, target, made),
            table.winner(address, target.service),
        )


def _why_not_served(claim: Claim, target: Target, made: Made) -> str:
    front = claim.front
    if front.near == front.far == "serve":
        return ""
    if not target.usable.has_any:
        return "no endpoint can take traffic, on any node"
    assert made.wanted is not None
    whose = "internal" if claim.kind == "cluster" else "external"
    return f"{whose} policy Local, and no endpoint on this node can take traffic"


def _uses(target: Target, slices: Sequence[BriefSlice], here: Here) -> Iterator[Use]:
    port, family = target.port, target.face.family
    group = (port.name, port.protocol, family)
    merged = merge(groups(slices).get(group, ()), here.name)
    used = {*target.usable.cluster}, {*target.usable.local}
    told: set[Key] = set()
    for each in slices:
        for number, rows in groups([each]).get(group, ()):
            for row in rows:
                key = (row[0], number)
                cluster, local = (key in one for one in used)
                if row[1] & STRANGER:
                    why = f"no address of {family}"
                elif key in told or merged[key] != row:
                    cluster = local = False
                    why = "stands in another place, too, and that copy counts"
                else:
                    told.add(key)
                    why = _why(row, target, here, cluster=cluster, local=local)
                yield Use(*key, each.metadata.name, row[2], cluster, local, why)


def _why(row: Row, target: Target, here: Here, *, cluster: bool, local: bool) -> str:
    """Say why an endpoint is used, or is not."""
    mode, state = target.usable.mode, row[1]
    where = "here" if row[2] == here.name else "on another node"
    if cluster or local:
        if state & READY:
            return f"ready, {where}"
        others = "none" if cluster else "none here"
        return f"terminating but serving, {where}, and {others} is ready"
    if not state & READY:
        if state & LEAVING == LEAVING:
            return "terminating, and others are ready"
        return (
            "terminating, no longer serving" if state & TERMINATING else _unready(row)
        )
    if mode == "same-zone":
        return f"meant for zone {', '.join(row[3])}; this is {here.zone}"
    if mode == "same-node":
        return f"meant for node {', '.join(row[4])}"
    return f"{where}, and the policy is Local"


def _unready(row: Row) -> str:
    return "not ready, though serving" if row[1] & SERVING else "not ready"


def _ignored(
    slices: Sequence[BriefSlice],
    mine: Sequence[BriefSlice],
    targets: Sequence[Target],
) -> Iterator[str]:
    families = {each.face.family for each in targets}
    wanted = {(each.port.name, each.port.protocol) for each in targets}
    for each in slices:
        name, ports = each.metadata.name, groups([each])
        if each not in mine:
            yield f"{name}: its labels give it to another proxy, or to none"
        elif each.address_type not in families:
            yield f"{name}: the Service has no address of {each.address_type}"
        elif not ports:
            yield f"{name}: no port with a name and a number"
        elif not any((port, protocol) in wanted for port, protocol, _ in ports):
            yield f"{name}: no port of it is one of the Service"
        elif any(row[1] & STRANGER for row in each.endpoints):
            yield f"{name}: addresses that are not {each.address_type}"
