"""A delta on its way into force: checked, opened, built; then committed or dropped.

A draft takes a delta and the state in force. It checks the delta against the state,
opens what must listen and builds the blocks that are new. If any step fails, the draft
closes what it opened and drops its blocks, whose slots then go back to the registry:
nothing has changed. A draft that stands is committed as a whole or not at all.

No loop goes over `items()` of a dict: where there is no memory for its pair, CPython
frees the iterator before the collector knows of it, and crashes (seen in 3.11.7).
"""

from collections.abc import Container, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from fastpath.api.errors import TableError
from fastpath.api.spec import Delta, Listener, ListenerKey, Pool, Upstream, Vip, VipKey
from fastpath.table.block import PoolBlock, UpstreamBlock, VipBlock
from fastpath.table.delta import (
    Holder,
    Listening,
    PoolName,
    Sockets,
    State,
    address_of,
    check_holder,
    holder_of,
)
from fastpath.table.keep import keep
from fastpath.table.listener import open_listeners, share_listeners
from fastpath.tls.context import ClientContext, ServerContext

K = TypeVar("K")


class Draft:
    """What `delta` makes of `state`. The state is as it was until `commit`.

    Raises:
        TableError: the delta names what is not there, or twice the same key, removes
            what is used, or has something that the core cannot work with; which.
        OSError: something cannot be bound, or a socket is not what its vip needs.
    """

    def __init__(self, state: State, delta: Delta, sockets: Sockets) -> None:
        self.state = state
        self.delta = delta
        self._sockets = sockets
        self.vips: dict[VipKey, VipBlock | None] = {}
        self.pools: dict[PoolName, PoolBlock | None] = {}
        self.upstreams: dict[str, UpstreamBlock | None] = {}
        self.opened: dict[ListenerKey, Listening] = {}
        self.closed: list[ListenerKey] = []
        self.changed: list[Vip | Listener] = []  # listen already, with other options
        self._users: dict[str, int] = {}  # what is added to those of a named pool
        self._addresses: dict[tuple[str, str | bytes], Holder | None] = {}
        self._check_keys()
        self._check_addresses()
        try:
            self._open()
            self._build()
            self._check_pools()
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Close what was opened now, and not only when the last reference is gone.

        Blocks give their slots back by themselves.
        """
        for listening in self.opened.values():
            listening.sockets.close()

    # ---- Checks.

    def _check_keys(self) -> None:
        d, state = self.delta, self.state
        if d.vips or d.remove_vips:
            _check_keys("vip", [v.key for v in d.vips], d.remove_vips, state.vips)
        if d.pools or d.remove_pools:
            _check_keys("pool", list(d.pools), d.remove_pools, state.pools)
        if d.upstreams or d.remove_upstreams:
            names = [upstream.name for upstream in d.upstreams]
            _check_keys("upstream", names, d.remove_upstreams, state.upstreams)
        if d.listeners or d.remove_listeners:
            keys = [one.key for one in d.listeners]
            _check_keys("listener", keys, d.remove_listeners, state.transparent)

    def _check_addresses(self) -> None:
        state, mine, d = self.state, self._addresses, self.delta
        for key in d.remove_vips:
            mine[address_of(state.vips[key].spec)] = None
        for key in d.remove_listeners:
            mine[address_of(state.transparent[key])] = None
        both: tuple[Vip | Listener, ...] = (*d.vips, *d.listeners)
        for one in both:
            address = address_of(one)
            holder = mine.get(address, state.addresses.get(address))
            check_holder(holder, one)
            mine[address] = holder_of(one)

    def _check_pools(self) -> None:
        state = self.state
        for name in self.delta.remove_pools:
            if state.users.get(name, 0) + self._users.get(name, 0) > 0:
                raise TableError(f"pool {name!r} is removed, and used")
            self.pools[name] = None

    # ---- Listening.

    def _open(self) -> None:
        state, d = self.state, self.delta
        for key in (*d.remove_vips, *d.remove_listeners):
            if key in state.listening:
                self.closed.append(key)
        listed: list[Vip | Listener] = [*d.vips, *d.listeners]
        for one in listed:
            bound = isinstance(one, Listener) or one.bind
            if one.key not in state.listening:
                if bound:
                    self._open_one(one)
            elif bound:
                self.changed.append(one)
            else:
                self.closed.append(one.key)

    def _open_one(self, one: Vip | Listener) -> None:
        workers = self.state.workers
        if one.key in self._sockets:
            sockets = share_listeners(one, self._sockets[one.key], workers)
        else:
            mine = [listening.address[1] for listening in self.opened.values()]
            beside = one.port > 0 and (one.port in self.state.ports or one.port in mine)
            sockets = open_listeners(one, workers, beside)
        try:
            self.opened[one.key] = Listening(sockets)
        except BaseException:
            sockets.close()  # now: the traceback has them
            raise

    # ---- Building.

    def _build(self) -> None:
        d, state = self.delta, self.state
        for name in d.pools:
            self.pools[name] = PoolBlock(d.pools[name], name, state.registry)
        for key in d.remove_vips:
            old = state.vips[key].spec
            self._leave_pool(("vip", key), old.pool)
            self._leave_pool(("near", key), old.near_pool)
            self.vips[key] = None
        for name in d.remove_upstreams:
            self._leave_pool(("upstream", name), state.upstreams[name].spec.pool)
            self.upstreams[name] = None
        for vip in d.vips:
            self.vips[vip.key] = self._vip(vip)
        for upstream in d.upstreams:
            self.upstreams[upstream.name] = self._upstream(upstream)

    def _vip(self, vip: Vip) -> VipBlock:
        state = self.state
        block = state.vips.get(vip.key)
        old = None if block is None else block.spec
        pool = near = self._pool(("vip", vip.key), vip.pool, old.pool if old else None)
        old_near = None if old is None else old.near_pool
        if vip.near_pool is None:
            self._leave_pool(("near", vip.key), old_near)
        else:
            near = self._pool(("near", vip.key), vip.near_pool, old_near)
        tls = self._server_context(vip)
        listening = self.opened.get(vip.key) or state.listening.get(vip.key)
        bound = (vip.host, vip.port)
        if vip.bind and listening is not None:
            bound = listening.address
        return VipBlock(vip, (pool, near), bound, state.registry, tls)

    def _upstream(self, upstream: Upstream) -> UpstreamBlock:
        state = self.state
        block = state.upstreams.get(upstream.name)
        old = None if block is None else block.spec.pool
        pool = self._pool(("upstream", upstream.name), upstream.pool, old)
        tls = self._client_context(upstream)
        return UpstreamBlock(upstream, pool, state.registry, tls)

    def _pool(self, own: PoolName, pool: Pool | str, old: Pool | str | None) -> int:
        """Slot of the pool of this name, or of one of its own, made if it is new."""
        state = self.state
        self._leave_pool(own, old, pool)
        if isinstance(pool, str):
            block = self.pools.get(pool) or state.pools.get(pool)
            if block is None:
                raise TableError(f"{own[1]} names no pool: {pool!r}")
            self._use(pool, 1)
            return block.slot
        block = state.pools.get(own)
        if block is None or block.spec != pool:
            block = self.pools[own] = PoolBlock(pool, own, state.registry)
        return block.slot

    def _leave_pool(
        self, own: PoolName, old: Pool | str | None, new: Pool | str | None = None
    ) -> None:
        if isinstance(old, str):
            self._use(old, -1)
        elif old is not None and not isinstance(new, Pool):
            self.pools[own] = None  # its own is needed no more

    def _use(self, pool: str, more: int) -> None:
        self._users[pool] = self._users.get(pool, 0) + more

    # Contexts are shared by all that speak TLS in the same way: 100 KB and a
    # millisecond each.

    def _server_context(self, vip: Vip) -> ServerContext | None:
        contexts, tls = self.state.server_contexts, vip.tls
        if tls is None or (context := contexts.get(tls)) is not None:
            return None if tls is None else context
        try:
            return contexts.put(tls, ServerContext(tls, self.state.workers))
        except TableError as error:
            raise TableError(f"vip {vip.host} port {vip.port}: {error}") from error

    def _client_context(self, upstream: Upstream) -> ClientContext | None:
        contexts, tls = self.state.client_contexts, upstream.tls
        if tls is None or (context := contexts.get(tls)) is not None:
            return None if tls is None else context
        try:
            return contexts.put(tls, ClientContext(tls, self.state.workers))
        except TableError as error:
            raise TableError(f"upstream {upstream.name}: {error}") from error

    # ---- Keeping.

    def changes(self) -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
        """Return what becomes of the state: its dicts, and what each is to keep."""
        state = self.state
        closed: dict[ListenerKey, Listening | None] = dict.fromkeys(self.closed)
        all_: list[tuple[dict[Any, Any], dict[Any, Any]]] = [
            (state.pools, self.pools),
            (state.vips, self.vips),
            (state.addresses, self._addresses),
            (state.upstreams, self.upstreams),
            (state.transparent, self._transparent()),
            (state.listening, {**closed, **self.opened}),
            (state.ports, self._counts(state.ports, self._ports())),
            (state.users, self._counts(state.users, self._users)),
        ]
        return [(of, changes) for of, changes in all_ if changes]

    def commit(self) -> None:
        """Make this the state, or raise MemoryError and leave it as it was."""
        keep(self.changes())

    def _transparent(self) -> dict[ListenerKey, Listener | None]:
        d = self.delta
        gone: dict[ListenerKey, Listener | None] = dict.fromkeys(d.remove_listeners)
        return {**gone, **{one.key: one for one in d.listeners}}

    def _ports(self) -> dict[int, int]:
        """What is added to the number of those that listen on a port."""
        more: dict[int, int] = {}
        for key in self.closed:
            port = self.state.listening[key].address[1]
            more[port] = more.get(port, 0) - 1
        for listening in self.opened.values():
            port = listening.address[1]
            more[port] = more.get(port, 0) + 1
        return more

    @staticmethod
    def _counts(old: Mapping[K, int], more: Mapping[K, int]) -> dict[K, int | None]:
        """Counts as they will be; 0 is none, as names come and go."""
        return {key: (old.get(key, 0) + more[key]) or None for key in more}


def _check_keys(
    kind: str,
    come: Sequence[Hashable],
    go: Sequence[Hashable],
    known: Container[object],
) -> None:
    if len(come) + len(go) > 1:
        seen = set()
        for key in (*come, *go):
            if key in seen:
                raise TableError(f"{kind} {key!r} stands twice in a delta")
            seen.add(key)
    for key in go:
        if key not in known:
            raise TableError(f"{kind} {key!r} is removed, and not there")
