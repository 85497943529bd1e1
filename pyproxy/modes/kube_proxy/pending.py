"""Changes of the table that are not in force yet, and whose they are. Pure."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pyproxy.capture import Fronts
from pyproxy.dataplane import Change
from pyproxy.model import Front, Pool, Vip, VipKey
from pyproxy.modes.kube_proxy.parts import Delta

K = TypeVar("K")
V = TypeVar("V")

NOBODY = ""


def owner_of(pool: str) -> str:
    """Return the key of the Service that a pool is of."""
    return pool.partition(":")[0]


@dataclass(slots=True)
class Pending:
    """What is to be there, by key; None = to be gone. The last one said counts."""

    vips: dict[VipKey, Vip | None] = field(default_factory=dict)
    pools: dict[str, Pool | None] = field(default_factory=dict)
    fronts: dict[VipKey, Front | None] = field(default_factory=dict)
    cluster_ips: dict[str, bool] = field(default_factory=dict)  # whether it is one
    blocks: tuple[str, ...] | None = None

    @classmethod
    def of(cls, delta: Delta) -> "Pending":
        """Return what a delta asks for."""
        return cls(
            vips=_by(((v.key, v) for v in delta.vips), delta.remove_vips),
            pools=_by(((p.name, p) for p in delta.pools), delta.remove_pools),
            fronts=_by(((f.key, f) for f in delta.fronts), delta.remove_fronts),
            cluster_ips={
                **dict.fromkeys(delta.remove_cluster_ips, False),
                **dict.fromkeys(delta.cluster_ips, True),
            },
            blocks=delta.blocks,
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        some = self.vips or self.pools or self.fronts or self.cluster_ips
        return not some and self.blocks is None

    def add(self, later: "Pending") -> None:
        """Take what was said later."""
        self.vips.update(later.vips)
        self.pools.update(later.pools)
        self.fronts.update(later.fronts)
        self.cluster_ips.update(later.cluster_ips)
        if later.blocks is not None:
            self.blocks = later.blocks

    def shared(self) -> Fronts:
        """Return what is of no Service alone."""
        ips = self.cluster_ips.items()
        return Fronts(
            cluster_ips=[each for each, is_one in ips if is_one],
            remove_cluster_ips=[each for each, is_one in ips if not is_one],
            blocks=self.blocks,
        )

    def closing(self) -> Fronts:
        """Return the fronts that must be in force before vips go."""
        put = [f for f in self.fronts.values() if f is not None and not serves(f)]
        gone = [key for key, front in self.fronts.items() if front is None]
        return Fronts(put=put, remove=gone)

    def opening(self) -> Fronts:
        """Return those whose vips must be there before."""
        return Fronts(put=[f for f in self.fronts.values() if f and serves(f)])

    def change(self, vips: Container[VipKey], pools: Container[str]) -> Change:
        """Return it for the core, which has these."""
        gone = (key for key, vip in self.vips.items() if vip is None)
        lost = (name for name, pool in self.pools.items() if pool is None)
        return Change(
            vips=[vip for vip in self.vips.values() if vip is not None],
            pools=[pool for pool in self.pools.values() if pool is not None],
            remove_vips=[key for key in gone if key in vips],
            remove_pools=[name for name in lost if name in pools],
        )

    def split(self, owners: Mapping[VipKey, str]) -> "dict[str, Pending]":
        """Return what is of each Service. `owners` are those of vips in force.

        What is of no Service alone is in no part: see `shared`.
        """
        parts: dict[str, Pending] = {}

        def part(owner: str) -> Pending:
            return parts.setdefault(owner, Pending())

        for name, pool in self.pools.items():
            part(owner_of(name)).pools[name] = pool
        for key, vip in self.vips.items():
            owner = owners.get(key, NOBODY) if vip is None else owner_of(vip.pool.name)
            part(owner).vips[key] = vip
        for key, front in self.fronts.items():
            new = self.vips.get(key)
            owner = owner_of(new.pool.name) if new else owners.get(key, NOBODY)
            part(owner).fronts[key] = front
        return parts


def joined(parts: Iterable[Pending]) -> Pending:
    """Return all of them as one."""
    found = Pending()
    for each in parts:
        found.add(each)
    return found


def serves(front: Front) -> bool:
    """Whether any client is let in."""
    return "serve" in (front.near, front.far)


def _by(come: Iterable[tuple[K, V]], go: Iterable[K]) -> dict[K, V | None]:
    found: dict[K, V | None] = dict.fromkeys(go)
    found.update(come)
    return found


def halves(keys: list[str]) -> Iterator[list[str]]:
    """Yield both, if there are two."""
    middle = len(keys) // 2
    yield from (half for half in (keys[:middle], keys[middle:]) if half)
