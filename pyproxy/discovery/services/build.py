"""One Service and its slices -> its pools, vips and fronts. A pure function.

What follows from the Service and what follows from its endpoints are kept apart: where
the same sets have endpoints as before, the addresses are what they were, and only pools
are made anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pyproxy.discovery.services.claims import Claim, Target, claims_of
from pyproxy.discovery.services.endpoints import (
    NOTHING,
    Group,
    Part,
    choose,
    groups,
    merge,
    ready_here,
    strangers,
)
from pyproxy.discovery.services.here import Here
from pyproxy.discovery.services.options import USUAL, Options, options_of
from pyproxy.discovery.services.ports import Wanted, wanted, why_skipped
from pyproxy.discovery.services.settings import HEADLESS, PROXY_NAME, Settings
from pyproxy.kube.objects import Service
from pyproxy.kube.slices import BriefSlice
from pyproxy.model import Backend, Balance, Key, Pool, VipKey

MOST_BACKENDS = 65_536  # the core's, of a pool
MOST_ON_RING = 8192
LAST = "~"  # of moments: after all of them


@dataclass(frozen=True, slots=True)
class Health:
    """What a health check node port has to say."""

    port: int
    endpoints: int  # ready ones on this node


@dataclass(slots=True, eq=False)
class Made:
    """What has become of one Service."""

    service: Service | None = None
    here: Here | None = None  # that it was built with
    skipped: str = ""  # why it is none of ours
    rank: tuple[str, str] = (LAST, "")  # the lowest wins an address
    wanted: Wanted | None = None
    said: tuple[str, ...] = ()  # complaints about the Service itself
    shape: tuple[object, ...] = ()  # all of its endpoints that matters to its claims
    options: Options = USUAL
    pools: Mapping[str, Pool] = field(default_factory=dict)
    claims: Mapping[VipKey, Claim] = field(default_factory=dict)
    cluster_ips: tuple[str, ...] = ()
    health: Health | None = None
    # Ports whose clients are dropped: all usable endpoints are on other nodes.
    lacking_internal: int = 0
    lacking_external: int = 0
    complaints: tuple[str, ...] = ()


ABSENT = Made()


def build(
    key: str,
    service: Service | None,
    slices: Iterable[BriefSlice],
    here: Here,
    settings: Settings,
    before: Made = ABSENT,
) -> Made:
    """Return what becomes of a Service; parts that did not change are those of before.

    `before` was built with the same settings.
    """
    if service is None:
        return ABSENT
    made = Made(service=service, here=here)
    made.rank = (service.metadata.creation_timestamp or LAST, key)
    made.skipped = why_skipped(service, settings)
    if made.skipped:
        return made
    is_same = before.service is service and before.here is here
    if is_same:
        made.wanted, made.said, made.options = (
            before.wanted,
            before.said,
            before.options,
        )
    else:
        made.wanted = wanted(service, here, settings)
        made.options, wrong = options_of(service.metadata.annotations)
        made.said = (*made.wanted.complaints, *wrong)
    assert made.wanted is not None
    made.cluster_ips = tuple([face.cluster_ip for face in made.wanted.faces])
    complaints = list(made.said)
    found = groups(ours(slices, settings))
    targets = targets_of(key, made.wanted, found, here, complaints)
    made.shape = tuple([shape_of(each) for each in targets])
    if is_same and made.shape == before.shape:
        made.claims = before.claims
    else:
        args = (targets, made.wanted, here, settings, before.claims)
        made.claims = claims_of(*args)
    _count_lacking(targets, made)
    made.pools = _pools(targets, made, settings, before.pools, complaints)
    made.health = _health(made.wanted, found, here)
    made.complaints = tuple(complaints)
    return made


def ours(slices: Iterable[BriefSlice], settings: Settings) -> list[BriefSlice]:
    """Return the slices that are ours; the watch leaves the others out, mostly."""
    found = []
    for each in slices:
        labels = each.metadata.labels
        name = labels.get(PROXY_NAME, "")
        is_other = PROXY_NAME in labels and (
            not name or name != settings.service_proxy_name
        )
        if not is_other and HEADLESS not in labels:
            found.append(each)
    return found


def shape_of(target: Target) -> tuple[bool, bool, bool]:
    """Return all of the endpoints that matters to claims."""
    usable = target.usable
    return bool(usable.cluster), bool(usable.local), usable.has_any


def targets_of(
    key: str,
    want: Wanted,
    found: Mapping[Group, list[Part]],
    here: Here,
    complaints: list[str],
) -> list[Target]:
    """Return all ports in all families, with what they can use from here."""
    targets = []
    for face in want.faces:
        family = face.family
        for port in want.ports:
            parts = found.get((port.name, port.protocol, family))
            target = Target(key, port, face, NOTHING)
            if parts:
                merged = merge(parts, here.name)
                is_external = target.is_external
                usable = choose(
                    merged,
                    here,
                    cluster=not want.internal_local or is_external,
                    local=want.internal_local or (want.external_local and is_external),
                )
                target = Target(key, port, face, usable)
                if sum([len(rows) for _, rows in parts]) != len(merged):
                    complaints += strangers(parts, family)
            targets.append(target)
    return targets


def _count_lacking(targets: Sequence[Target], made: Made) -> None:
    assert made.wanted is not None
    for each in targets:
        if each.usable.has_any and not each.usable.local:
            made.lacking_internal += made.wanted.internal_local
            made.lacking_external += made.wanted.external_local and each.is_external


def _pools(
    targets: Sequence[Target],
    made: Made,
    settings: Settings,
    before: Mapping[str, Pool],
    complaints: list[str],
) -> dict[str, Pool]:
    """Return the pools that vips name."""
    assert made.wanted is not None
    pools: dict[str, Pool] = {}
    for target in targets:
        usable = target.usable
        wants_both = made.wanted.external_local and target.is_external
        if usable.cluster:
            name = target.pool("cluster")
            args = (made, settings, before.get(name), complaints)
            pools[name] = _pool(name, usable.cluster, *args)
        if usable.local or (usable.cluster and wants_both):
            name = target.pool("local")
            args = (made, settings, before.get(name), complaints)
            pools[name] = _pool(name, usable.local, *args)
    return pools


def _pool(
    name: str,
    keys: Sequence[Key],
    made: Made,
    settings: Settings,
    old: Pool | None,
    complaints: list[str],
) -> Pool:
    assert made.wanted is not None
    options, affinity_s = made.options, made.wanted.affinity_s
    if len(keys) > MOST_BACKENDS:
        complaints.append(f"{name}: {len(keys)} endpoints, {MOST_BACKENDS} are used")
        keys = keys[:MOST_BACKENDS]
    balance: Balance = options.balance or settings.balance
    if balance == "ring" and len(keys) > MOST_ON_RING:
        complaints.append(f"{name}: {len(keys)} endpoints are too many for a ring")
        balance = "two-choices"
    slow_s, connect_s = options.slow_start_s, options.connect_timeout_s
    slow_s = settings.slow_start_s if slow_s is None else slow_s
    connect_s = settings.connect_timeout_s if connect_s is None else connect_s
    known: dict[Key, Backend] = {}
    if old is not None:
        known = {(each.host, each.port): each for each in old.backends}
        said = (old.balance, old.slow_start_s, old.connect_timeout_s, old.affinity_s)
        if said == (balance, slow_s, connect_s, affinity_s) and [*known] == [*keys]:
            return old
    return Pool(
        name,
        tuple([known.get(key) or Backend(*key) for key in keys]),
        balance=balance,
        connect_timeout_s=connect_s,
        slow_start_s=slow_s,
        affinity_s=affinity_s,
    )


def _health(
    want: Wanted, found: Mapping[Group, list[Part]], here: Here
) -> Health | None:
    """Count by family and take the higher: a Pod of both is one endpoint."""
    if not want.health_port:
        return None
    most = 0
    for face in want.faces:
        merged = [
            merge(parts, here.name)
            for (_, _, kind), parts in found.items()
            if kind == face.family
        ]
        most = max(most, ready_here(merged, here.name))
    return Health(want.health_port, most)
