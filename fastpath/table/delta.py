"""Whole tables, and the state in force that deltas change."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar
from weakref import ref

from fastpath.api.checks import UNIX, check
from fastpath.api.errors import TableError
from fastpath.api.spec import (
    Delta,
    Listener,
    ListenerKey,
    Pool,
    Upstream,
    Vip,
    VipKey,
    check_items,
)
from fastpath.api.tlsspec import ClientTls, ServerTls
from fastpath.base.addr import canonical
from fastpath.table.block import PoolBlock, UpstreamBlock, VipBlock
from fastpath.table.listener import Sockets as OpenSockets
from fastpath.table.registry import Registry
from fastpath.tls.context import ClientContext, ServerContext

K = TypeVar("K")
V = TypeVar("V")
SHARED_LEAST = 16

PoolName = str | tuple[str, str | VipKey]  # a name, or what has the pool to itself
Holder = tuple[str, VipKey]  # of an address: "vip" or "listener", and which
Sockets = Mapping[ListenerKey, Sequence[int]]


class Table:
    """All vips that an engine serves, and the pools and upstreams that they name.

    Raises:
        TableError: two vips or listeners have one address or two upstreams one name, or
            a vip or upstream names a pool that is not there.
    """

    __slots__ = ("listeners", "pools", "upstreams", "vips")

    def __init__(
        self,
        vips: Iterable[Vip] = (),
        upstreams: Iterable[Upstream] = (),
        *,
        pools: Mapping[str, Pool] = MappingProxyType({}),
        listeners: Iterable[Listener] = (),
    ) -> None:
        vips, upstreams = tuple(vips), tuple(upstreams)
        listeners = tuple(listeners)
        for items, kind in ((vips, Vip), (upstreams, Upstream), (listeners, Listener)):
            check_items(items, kind)
        check_items(pools.values(), Pool)
        _check_addresses((*vips, *listeners))
        _check_names(upstreams)
        self.vips = MappingProxyType({vip.key: vip for vip in vips})
        self.upstreams = MappingProxyType({u.name: u for u in upstreams})
        self.pools = MappingProxyType(dict(pools))
        self.listeners = MappingProxyType({one.key: one for one in listeners})
        specs: list[Vip | Upstream] = [*vips, *upstreams]
        for spec in specs:
            for pool in pools_of(spec):
                if isinstance(pool, Pool):
                    _check_backends(pool)
                elif pool not in self.pools:
                    raise TableError(f"{_shown(spec)} names no pool: {pool!r}")
        for pool in self.pools.values():
            _check_backends(pool)


def pools_of(spec: Vip | Upstream) -> tuple[Pool | str, ...]:
    """Return its pool, and that of near clients if they have one."""
    near = spec.near_pool if isinstance(spec, Vip) else None
    return (spec.pool,) if near is None else (spec.pool, near)


def _check_addresses(all_: Iterable[Vip | Listener]) -> None:
    holders: dict[tuple[str, str | bytes], Holder] = {}
    for one in all_:
        address = address_of(one)
        if address in holders:
            holder = holders[address]
            raise TableError(_clash(holder[0], one))
        holders[address] = holder_of(one)


def holder_of(one: Vip | Listener) -> Holder:
    """Return what has an address: a vip or a listener of which key."""
    return ("vip" if isinstance(one, Vip) else "listener"), one.key


def check_holder(holder: Holder | None, one: Vip | Listener) -> None:
    """Refuse `one` where its address is another's."""
    if holder is not None and holder != holder_of(one):
        raise TableError(_clash(holder[0], one))


def _clash(kind: str, one: Vip | Listener) -> str:
    both = f"two {kind}s" if holder_of(one)[0] == kind else "a vip and a listener"
    return f"{both} on {one.host} port {one.port}"


def _check_names(upstreams: Iterable[Upstream]) -> None:
    names = Counter(upstream.name for upstream in upstreams)
    for name, count in names.items():
        check(count == 1, f"two upstreams are named {name!r}")


def _check_backends(pool: Pool) -> None:
    seen = set()
    for backend in pool.backends:
        unix = backend.host.startswith(UNIX)
        address = backend.host if unix else canonical(backend.host, backend.port)
        if address in seen:
            where = f"{backend.host} port {backend.port}"
            raise TableError(f"backend {where} stands twice in a pool")
        seen.add(address)


def address_of(vip: Vip | Listener) -> tuple[str, str | bytes]:
    """Return what tells vips apart: an address may be written in many ways."""
    if vip.host.startswith(UNIX):
        return vip.protocol, vip.host
    return vip.protocol, canonical(vip.host, vip.port)


def _shown(spec: Vip | Upstream) -> str:
    if isinstance(spec, Upstream):
        return f"upstream {spec.name!r}"
    return f"vip {spec.host} port {spec.port}"


@dataclass(slots=True)
class Listening:
    """How a vip or listener listens."""

    sockets: OpenSockets
    slot: int = -1  # of the listener; -1 = not published yet

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) as bound."""
        return self.sockets.address


class Shared(Generic[K, V]):
    """Values by key, for as long as something else holds on to them.

    Not a WeakValueDictionary, whose callbacks need memory where a block is freed.
    """

    def __init__(self) -> None:
        self._refs: dict[K, ref[V]] = {}
        self._most = SHARED_LEAST  # refs, before those to nothing are left out

    def get(self, key: K) -> V | None:
        """Return the value, or None if there is none any more."""
        found = self._refs.get(key)
        return None if found is None else found()

    def put(self, key: K, value: V) -> V:
        """Remember the value, and return it."""
        if len(self._refs) >= self._most:
            refs = self._refs
            self._refs = {one: refs[one] for one in refs if refs[one]() is not None}
            self._most = max(SHARED_LEAST, 2 * len(self._refs))
        self._refs[key] = ref(value)
        return value

    def __len__(self) -> int:
        return len(self._refs)


@dataclass(slots=True)
class State:
    """What is in force, by key."""

    registry: Registry
    workers: int
    vips: dict[VipKey, VipBlock] = field(default_factory=dict)
    pools: dict[PoolName, PoolBlock] = field(default_factory=dict)
    upstreams: dict[str, UpstreamBlock] = field(default_factory=dict)
    transparent: dict[ListenerKey, Listener] = field(default_factory=dict)
    listening: dict[ListenerKey, Listening] = field(default_factory=dict)
    addresses: dict[tuple[str, str | bytes], Holder] = field(default_factory=dict)
    ports: dict[int, int] = field(default_factory=dict)  # how many listen on each
    users: dict[str, int] = field(default_factory=dict)  # of named pools
    client_contexts: Shared[ClientTls, ClientContext] = field(default_factory=Shared)
    server_contexts: Shared[ServerTls, ServerContext] = field(default_factory=Shared)

    def delta_to(self, table: Table) -> Delta:
        """Return what turns this into `table`."""
        # Not over items(): see draft.
        vips, upstreams, pools = self.vips, self.upstreams, self.pools
        return Delta(
            vips=[
                vip
                for vip in table.vips.values()
                if vip.key not in vips
                or vips[vip.key].spec != vip
                or (vip.bind and vip.key not in self.listening)  # after a drain
            ],
            pools={
                name: table.pools[name]
                for name in table.pools
                if name not in pools or pools[name].spec != table.pools[name]
            },
            upstreams=[
                upstream
                for upstream in table.upstreams.values()
                if upstream.name not in upstreams
                or upstreams[upstream.name].spec != upstream
            ],
            listeners=[
                one
                for one in table.listeners.values()
                if self.transparent.get(one.key) != one or one.key not in self.listening
            ],
            remove_vips=[key for key in vips if key not in table.vips],
            remove_pools=[
                name
                for name in pools
                if isinstance(name, str) and name not in table.pools
            ],
            remove_upstreams=[n for n in upstreams if n not in table.upstreams],
            remove_listeners=[k for k in self.transparent if k not in table.listeners],
        )
