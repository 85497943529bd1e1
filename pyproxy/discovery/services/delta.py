"""What changes in a table of Services, and how it is gathered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyproxy.discovery.services.build import Health
from pyproxy.discovery.services.claims import Claim
from pyproxy.discovery.services.options import Options
from pyproxy.model import Front, Pool, Vip, VipKey


@dataclass(frozen=True, slots=True)
class Delta:
    """What appears, replaces what had its key, or goes.

    Vips and pools are as `dataplane.Change` takes them: pools of vips are only named.
    """

    vips: tuple[Vip, ...] = ()
    remove_vips: tuple[VipKey, ...] = ()
    pools: tuple[Pool, ...] = ()
    remove_pools: tuple[str, ...] = ()
    fronts: tuple[Front, ...] = ()
    remove_fronts: tuple[VipKey, ...] = ()
    # Of these addresses, ports without a front are refused.
    cluster_ips: tuple[str, ...] = ()
    remove_cluster_ips: tuple[str, ...] = ()
    # Networks in which addresses that no Service has are dropped; None = no change.
    blocks: tuple[str, ...] | None = None
    # By Service; what is none, usual or empty has gone.
    health: Mapping[str, Health | None] = field(default_factory=dict)
    options: Mapping[str, Options] = field(default_factory=dict)
    complaints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    changed_at: Mapping[str, str] = field(default_factory=dict)  # RFC 3339, if said

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes; when it happened is no change."""
        return (
            not any(
                getattr(self, name) for name in self.__slots__ if name != "changed_at"
            )
            and self.blocks is None
        )


class Differences:
    """What things were before they were touched, until all are what they are now."""

    def __init__(self) -> None:
        self.claims: dict[VipKey, Claim | None] = {}
        self.pools: dict[str, Pool | None] = {}  # as they are now; None = gone
        self.cluster_ips: dict[str, bool] = {}  # whether somebody had it
        self.blocks: tuple[str, ...] | None = None
        self.health: dict[str, Health | None] = {}
        self.options: dict[str, Options] = {}
        self.complaints: dict[str, None] = {}  # Services whose list may differ
        self.changed_at: dict[str, str] = {}

    def note_claim(self, address: VipKey, before: Claim | None) -> None:
        """Remember what was done with an address, the first time it is touched."""
        self.claims.setdefault(address, before)

    def note_pools(self, old: Mapping[str, Pool], new: Mapping[str, Pool]) -> None:
        """Compare the pools of a Service; they are of no other."""
        for name, pool in new.items():
            if old.get(name) is not pool:
                self.pools[name] = pool
        for name in old:
            if name not in new:
                self.pools[name] = None

    def finish(
        self,
        claim: Callable[[VipKey], Claim | None],
        has: Callable[[str], bool],
        complaints: Callable[[str], tuple[str, ...]],
    ) -> Delta:
        """Compare with what is now: claims, cluster IPs, complaints of Services."""
        pairs = [(a, old, claim(a)) for a, old in self.claims.items()]
        before = {a: old for a, old, _ in pairs if old is not None}
        after = {a: new for a, _, new in pairs if new is not None}
        vips = {a: claim.vip for a, claim in before.items() if claim.vip is not None}
        now = {a: claim.vip for a, claim in after.items() if claim.vip is not None}
        fronts = {a: claim.front for a, claim in before.items()}
        ips = [(each, had, has(each)) for each, had in self.cluster_ips.items()]
        return Delta(
            vips=tuple(vip for a, vip in now.items() if vips.get(a) != vip),
            remove_vips=tuple(a for a in vips if a not in now),
            pools=tuple(each for each in self.pools.values() if each is not None),
            remove_pools=tuple(name for name, each in self.pools.items() if not each),
            fronts=tuple(c.front for a, c in after.items() if fronts.get(a) != c.front),
            remove_fronts=tuple(a for a in fronts if a not in after),
            cluster_ips=tuple(each for each, had, now in ips if now and not had),
            remove_cluster_ips=tuple(each for each, had, now in ips if had and not now),
            blocks=self.blocks,
            health=self.health,
            options=self.options,
            complaints={key: complaints(key) for key in self.complaints},
            changed_at=self.changed_at,
        )
