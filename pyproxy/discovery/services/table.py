"""All Services of this node as one table, and what changes in it, Service by Service.

Handlers of stores mark keys. `take` builds the marked Services anew from what the
stores hold by then, in time that grows with those Services alone, and returns what
differs. The order of events does not matter, nor how many came in between.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pyproxy.discovery.services.build import ABSENT, Health, Made, build
from pyproxy.discovery.services.claims import Claim
from pyproxy.discovery.services.contest import Contest
from pyproxy.discovery.services.delta import Delta, Differences
from pyproxy.discovery.services.families import network_of
from pyproxy.discovery.services.here import Here
from pyproxy.discovery.services.options import USUAL, Options
from pyproxy.discovery.services.settings import Settings
from pyproxy.kube.objects import Service, ServiceCIDR
from pyproxy.kube.slices import BriefSlice
from pyproxy.model import Front, Pool, Vip, VipKey

logger = logging.getLogger(__name__)

BY_SERVICE = "service"  # the index of the slices' store


def by_service(found: BriefSlice) -> list[str]:
    """Index slices by the key of their Service."""
    return [found.service]


class Services(Protocol):
    """Where Services are kept: a store."""

    @property
    def objects(self) -> Mapping[str, Service]:
        """All of them."""

    def get(self, key: str) -> Service | None:
        """Return one."""


class Slices(Protocol):
    """Where slices are kept: a store with the index `by_service`."""

    def by(self, index: str, value: str) -> list[BriefSlice]:
        """Return those of a Service."""


@dataclass(frozen=True, slots=True)
class Table:
    """Everything at once; for tests, and for whoever looks on."""

    vips: Mapping[VipKey, Vip] = field(default_factory=dict)
    fronts: Mapping[VipKey, Front] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    health: Mapping[str, Health] = field(default_factory=dict)
    cluster_ips: frozenset[str] = frozenset()
    blocks: tuple[str, ...] = ()
    options: Mapping[str, Options] = field(default_factory=dict)
    complaints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class ServiceTable:
    """What the Services of a cluster come to on this node."""

    def __init__(
        self, services: Services, slices: Slices, settings: Settings, here: Here
    ) -> None:
        """Read from the stores; they are kept up to date by others."""
        self.services, self.slices = services, slices
        self.settings, self.here = settings, here
        self._made: dict[str, Made] = {}
        self._marked: dict[str, str] = {}  # key -> when the change happened, if said
        self._contest = Contest()
        self._users: dict[str, int] = {}  # cluster IP -> Services that have it
        # Ports that drop clients, by policy, as kube-proxy counts them for its metrics.
        self.lacking_internal = self.lacking_external = 0
        self._blocks: tuple[str, ...] = ()
        self._told_blocks: tuple[str, ...] = ()

    @property
    def is_marked(self) -> bool:
        """Whether `take` has something to do."""
        return bool(self._marked) or self._blocks != self._told_blocks

    def mark(self, key: str, changed_at: str = "") -> None:
        """Note that a Service, or a slice of it, is not what it was."""
        known = self._marked.get(key, "")
        self._marked[key] = (
            min(known, changed_at) if known and changed_at else (known or changed_at)
        )

    def mark_all(self) -> None:
        """Note that everything may be otherwise."""
        for key in [*self.services.objects, *self._made]:
            self._marked.setdefault(key, "")

    def set_here(self, here: Here) -> None:
        """Learn that the Node or its addresses changed."""
        if here != self.here:
            self.here = here
            self.mark_all()

    def set_blocks(self, cidrs: Iterable[ServiceCIDR]) -> None:
        """Learn where cluster IPs come from."""
        found = {text for each in cidrs for text in each.spec.cidrs}
        self._blocks = tuple(sorted(text for text in found if network_of(text)))

    def made(self, key: str) -> Made:
        """Return what became of a Service, as of the last `take`."""
        return self._made.get(key, ABSENT)

    def winner(self, address: VipKey, service: str) -> str:
        """Return to whom a Service lost an address; "" = it has it."""
        return self._contest.winner(address, service)

    def complaints(self, key: str) -> tuple[str, ...]:
        """Say what is wrong with a Service."""
        return self.made(key).complaints + self.lost(key)

    def lost(self, key: str) -> tuple[str, ...]:
        """Say which addresses of a Service others have."""
        return self._contest.complaints(key)

    def take(self) -> Delta:
        """Build what is marked, and return what differs from the last time."""
        marked, self._marked = self._marked, {}
        diff = Differences()
        diff.changed_at = {key: at for key, at in marked.items() if at}
        for key in marked:
            slices = self.slices.by(BY_SERVICE, key)
            service, before = self.services.get(key), self.made(key)
            args = (self.here, self.settings, before)
            try:
                made = build(key, service, slices, *args)
            except Exception:
                # A bug of ours, with a Service of an unforeseen kind; others go on.
                extra = {"key": key, "bug": True}
                logger.exception("service not built, keeping the last", extra=extra)
                continue
            self._replace(key, before, made, diff)
        for address in diff.claims:
            for loser in self._contest.settle(address, self._rank):
                diff.complaints.setdefault(loser, None)
        if self._blocks != self._told_blocks:
            self._told_blocks = diff.blocks = self._blocks
        return diff.finish(self.claim, self.is_cluster_ip, self.complaints)

    def _rank(self, key: str) -> tuple[str, str]:
        return self.made(key).rank

    def _replace(self, key: str, old: Made, new: Made, diff: Differences) -> None:
        if old.claims is not new.claims or old.rank != new.rank:
            self._reclaim(key, old, new, diff)
        diff.note_pools(old.pools, new.pools)
        if old.health != new.health:
            diff.health[key] = new.health
        if old.options != new.options:
            diff.options[key] = new.options
        if old.complaints != new.complaints:
            diff.complaints.setdefault(key, None)
        if old.cluster_ips != new.cluster_ips:
            self._count(old.cluster_ips, -1, diff)
            self._count(new.cluster_ips, 1, diff)
        self.lacking_internal += new.lacking_internal - old.lacking_internal
        self.lacking_external += new.lacking_external - old.lacking_external
        if new is ABSENT:
            self._made.pop(key, None)
        else:
            self._made[key] = new

    def _reclaim(self, key: str, old: Made, new: Made, diff: Differences) -> None:
        is_same_rank = old.rank == new.rank
        for address, claim in old.claims.items():
            if is_same_rank and new.claims.get(address) is claim:
                continue
            diff.note_claim(address, self.claim(address))
            if address not in new.claims:
                self._contest.leave(address, key)
        for address in new.claims:
            if address not in old.claims:
                diff.note_claim(address, self.claim(address))
                self._contest.join(address, key)

    def claim(self, address: VipKey) -> Claim | None:
        """Return what is done with an address, as of the last `take`."""
        owner = self._contest.owner(address)
        return self._made[owner].claims.get(address) if owner in self._made else None

    def _count(self, addresses: Iterable[str], by: int, diff: Differences) -> None:
        for address in addresses:
            before = self._users.get(address, 0)
            diff.cluster_ips.setdefault(address, before > 0)
            self._users[address] = before + by
            if not self._users[address]:
                del self._users[address]

    def is_cluster_ip(self, address: str) -> bool:
        """Whether a Service has it: ports that it does not offer are refused."""
        return address in self._users

    def whole(self) -> Table:
        """Return everything that deltas have told so far."""
        claims = {a: self.claim(a) for a, _ in self._contest.owned()}
        made = self._made.items()
        complaints = {key: self.complaints(key) for key, _ in made}
        return Table(
            vips={a: c.vip for a, c in claims.items() if c is not None and c.vip},
            fronts={a: c.front for a, c in claims.items() if c is not None},
            pools={pool.name: pool for _, m in made for pool in m.pools.values()},
            health={key: m.health for key, m in made if m.health is not None},
            cluster_ips=frozenset(self._users),
            blocks=self._told_blocks,
            options={key: m.options for key, m in made if m.options != USUAL},
            complaints={key: said for key, said in complaints.items() if said},
        )
