"""What Python says (fastpath.api.spec) as the structs that workers read.

A block is built once and never changes. While it is built it takes slots from the
registry; it gives them back when it is freed, also if no table ever named it: a refused
change leaves nothing behind.
"""

from operator import attrgetter

cimport cython
from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strlen

from fastpath.base.addr cimport (
    addr_is_loopback, addr_t, addr_to_sockaddr, address_of,
)
from fastpath.base.linux.socket cimport AF_UNIX, IPPROTO_TCP, IPPROTO_UDP, sockaddr_un
from fastpath.ring.ring cimport ring_fini, ring_hash_bytes, ring_init, ring_t
from fastpath.ring.rounds cimport rounds_new
from fastpath.table.httpblock cimport http_fill, ms_of
from fastpath.table.listener cimport listen_options
from fastpath.table.networks cimport networks_fill
from fastpath.table.registry cimport pool_state_t, upstream_state_t, vip_state_t
from fastpath.table.table cimport (
    BALANCE_LEAST, BALANCE_RANDOM, BALANCE_RING, BALANCE_ROUND_ROBIN,
    BALANCE_TWO_CHOICES, TIERS, http_t, tier_t,
)
from fastpath.tls.context cimport ClientContext, ServerContext

from fastpath.api.checks import UNIX as _UNIX
from fastpath.api.errors import TableError

BALANCES = {
    "random": BALANCE_RANDOM,
    "two-choices": BALANCE_TWO_CHOICES,
    "least": BALANCE_LEAST,
    "round-robin": BALANCE_ROUND_ROBIN,
    "ring": BALANCE_RING,
}

cdef void* allocate(size_t count, size_t size) except NULL:
    # At least one: calloc(3) of nothing may return NULL, which would mean a failure.
    cdef void* block = calloc(count if count > 0 else 1, size)
    if block == NULL:
        raise MemoryError
    return block


_place = attrgetter("tier", "host", "port")


@cython.no_gc
cdef class PoolBlock(Block):
    """A pool as workers read it; `key` is its name, or the vip or upstream it is of.

    Raises:
        TableError: a backend is no address, or stands twice in it.
    """

    def __cinit__(self, spec, key, Registry registry):
        cdef uint32_t i
        cdef pool_t* pool

        # In order: memory and the slot, so that __dealloc__ finds what to give back
        # wherever this stops; the backends, by tier, and by address within one, so that
        # the order of a spec does not matter; then what helps to pick in each tier.
        self.registry = registry
        self.spec = spec
        self.paths = []
        pool = <pool_t*>allocate(1, sizeof(pool_t))
        self.body = pool
        self.slot = registry.pools.take(key)
        pool.state = <pool_state_t*>registry.pools.state(self.slot)
        pool.stamp = registry.stamp()
        _fill_pool(pool, spec)
        ordered = sorted(spec.backends, key=_place)
        pool.backends = <backend_t*>allocate(len(ordered), sizeof(backend_t))
        pool.count = len(ordered)
        for i in range(pool.count):
            self._fill_backend(&pool.backends[i], ordered[i])
        _check_twice(pool, ordered)
        _fill_tiers(pool, ordered)

    cdef pool_t* pool(self):
        return <pool_t*>self.body

    def __dealloc__(self):
        cdef pool_t* pool = <pool_t*>self.body
        cdef uint32_t i

        # May be half-built: `state` tells whether the slot was taken, `named` how many
        # of the backends' were.
        if pool == NULL:
            return
        if pool.state != NULL:
            self.registry.pools.drop(self.slot)
        for i in range(self.named):
            self.registry.backends.drop(pool.backends[i].state.slot)
        if pool.tiers != NULL:
            for i in range(pool.tier_count):
                _free_tier(&pool.tiers[i])
        free(pool.tiers)
        free(pool.backends)
        free(pool)

    cdef _fill_backend(self, backend_t* b, spec):
        b.weight = spec.weight
        if spec.host.startswith(_UNIX):
            path = spec.host[len(_UNIX):].encode()
            self.paths.append(path)  # b.path points into it
            b.path = path
            b.addr.family = AF_UNIX
            b.loopback = True
        else:
            address_of(&b.addr, spec.host, spec.port)
            b.loopback = addr_is_loopback(&b.addr)
        # Last: `named` counts slots that are taken, for __dealloc__.
        b.state = self.registry.backend(
            self.registry.take_backend((spec.host, spec.port))
        )
        self.named += 1


cdef _check_twice(const pool_t* pool, list ordered):
    """Refuse one address that is written in two ways, as IPv6 allows."""
    cdef const backend_t* b
    cdef uint32_t i
    seen = set()

    # By the bytes that the kernel will see: Backend.key compares text only.
    for i in range(pool.count):
        b = &pool.backends[i]
        seen.add((<const char*>&b.addr)[:sizeof(addr_t)] if b.path == NULL else b.path)
        if len(seen) == i:  # the set did not grow
            where = f"{ordered[i].host} port {ordered[i].port}"
            raise TableError(f"backend {where} stands twice in a pool")


cdef void _free_tier(tier_t* tier) noexcept:
    free(tier.upto)
    free(tier.rounds)
    if tier.ring != NULL:
        ring_fini(tier.ring)
        free(tier.ring)


cdef _fill_pool(pool_t* pool, spec):
    pool.balance = BALANCES[spec.balance]
    pool.ring_5_tuple = spec.ring_key == "5-tuple"
    pool.try_all_down = spec.on_all_down == "try"
    pool.tries = spec.connect_tries
    pool.eject_after = spec.eject_after
    pool.eject_ms = ms_of(spec.eject_s)
    pool.connect_ms = ms_of(spec.connect_timeout_s)
    pool.slow_start_ms = ms_of(spec.slow_start_s)
    pool.affinity_s = max(1, round(spec.affinity_s)) if spec.affinity_s > 0 else 0


cdef socklen_t backend_sockaddr(
    const backend_t* b, sockaddr_storage* into
) noexcept nogil:
    cdef sockaddr_un* un = <sockaddr_un*>into

    # The path of a unix socket is too long for an addr_t, of which there are many.
    if b.path == NULL:
        return addr_to_sockaddr(&b.addr, into)
    memset(un, 0, sizeof(sockaddr_un))
    un.sun_family = AF_UNIX
    memcpy(un.sun_path, b.path, strlen(b.path))  # spec.py bounds it
    return sizeof(sockaddr_un)


cdef _fill_tiers(pool_t* pool, list ordered):
    cdef tier_t* tier = NULL
    cdef uint32_t i

    # The backends stand by tier: each tier is a stretch of them. First all stretches,
    # then what its policy needs of each.
    pool.tiers = <tier_t*>allocate(TIERS, sizeof(tier_t))
    for i in range(pool.count):
        if i == 0 or ordered[i].tier != ordered[i - 1].tier:
            tier = &pool.tiers[pool.tier_count]
            tier.first = i
            pool.tier_count += 1
        tier.count += 1
    for i in range(pool.tier_count):
        tier = &pool.tiers[i]
        _fill_weights(pool, tier)
        if pool.balance == BALANCE_ROUND_ROBIN:
            _fill_rounds(pool, tier)
        elif pool.balance == BALANCE_RING:
            _fill_ring(pool, tier)


cdef _fill_weights(pool_t* pool, tier_t* tier):
    cdef uint32_t i

    # Running sums: pick_weighted finds a backend by bisection.
    tier.upto = <uint32_t*>allocate(tier.count, sizeof(uint32_t))
    for i in range(tier.count):
        tier.weight += pool.backends[tier.first + i].weight
        tier.upto[i] = tier.weight


cdef _fill_rounds(pool_t* pool, tier_t* tier):
    cdef uint32_t i
    weights = [0] * tier.count

    for i in range(tier.count):
        weights[i] = pool.backends[tier.first + i].weight
    tier.rounds = rounds_new(weights, &tier.rounds_size)


cdef _fill_ring(pool_t* pool, tier_t* tier):
    cdef uint64_t* ids = <uint64_t*>allocate(tier.count, sizeof(uint64_t))
    cdef uint32_t* weights = NULL
    cdef backend_t* b
    cdef uint32_t i
    cdef int failed

    try:
        if tier.weight == 0:
            return  # balancer_pick passes such a tier over
        weights = <uint32_t*>allocate(tier.count, sizeof(uint32_t))
        for i in range(tier.count):
            b = &pool.backends[tier.first + i]
            # By address, not by slot: replicas, and this process after a restart, map a
            # client to the same backend without having told each other anything.
            ids[i] = ring_hash_bytes(<const uint8_t*>&b.addr, sizeof(addr_t))
            if b.path != NULL:
                ids[i] = ring_hash_bytes(<const uint8_t*>b.path, strlen(b.path))
            weights[i] = b.weight
        tier.ring = <ring_t*>allocate(1, sizeof(ring_t))
        failed = ring_init(tier.ring, ids, weights, tier.count, 0)
        if failed < 0:
            raise MemoryError if failed == -12 else TableError("ring")  # -ENOMEM
    finally:
        free(ids)
        free(weights)


@cython.no_gc
cdef class VipBlock(Block):
    """A vip as workers read it: limits, timeouts and where its clients go.

    `pools` are the slots of its pool and of that of near clients, `bound` is the (host,
    port) that it is found at, `tls` a ServerContext or None.
    """

    def __cinit__(self, spec, tuple pools, tuple bound, Registry registry, tls):
        cdef vip_t* v = <vip_t*>allocate(1, sizeof(vip_t))

        self.body = v
        self.registry = registry
        self.spec = spec
        self.kept = [tls]  # contexts and header names that structs point into
        # Both limits by source need a sketch of 1.5 MiB: only vips that have one pay.
        by_source = spec.max_connections_per_source or spec.max_new_per_s_per_source
        self.slot = registry.take_vip(spec.key, bool(by_source))
        v.state = <vip_state_t*>registry.vips.state(self.slot)
        v.pool, v.near_pool = pools
        v.protocol = IPPROTO_UDP if spec.protocol == "udp" else IPPROTO_TCP
        if not bound[0].startswith(_UNIX):
            address_of(&v.addr, bound[0], bound[1])  # as bound: port 0 became real
        self._fill_limits(spec)
        networks_fill(&v.trusted, spec.proxy_protocol_from)
        networks_fill(&v.near, spec.near)
        v.keep_far = spec.keep_source in ("far", "all")
        v.keep_near = spec.keep_source in ("near", "all")
        if spec.http is not None:
            v.http = <http_t*>allocate(1, sizeof(http_t))
            http_fill(v.http, spec.http, self.kept)
        if tls is not None:  # with HTTP only, as Vip has checked
            v.http.tls = (<ServerContext>tls).contexts

    cdef vip_t* vip(self):
        return <vip_t*>self.body

    def __dealloc__(self):
        cdef vip_t* v = <vip_t*>self.body

        if v == NULL:
            return
        if v.state != NULL:
            self.registry.vips.drop(self.slot)
        free(v.trusted.list)
        free(v.near.list)
        free(v.http)  # its TLS contexts are those of `kept`
        free(v)

    cdef _fill_limits(self, spec):
        cdef vip_t* v = self.vip()

        v.idle_ms = ms_of(spec.idle_timeout_s)
        v.one_way_ms = ms_of(spec.udp_one_way_s)
        v.two_way_ms = ms_of(spec.udp_two_way_s)
        v.max_live = spec.max_connections
        v.max_live_source = spec.max_connections_per_source
        v.max_new = spec.max_new_per_s
        v.max_new_source = spec.max_new_per_s_per_source
        v.listen = listen_options(spec)


@cython.no_gc
cdef class UpstreamBlock(Block):
    """An upstream as workers read it; `tls` is a ClientContext or None."""

    def __cinit__(self, spec, uint32_t pool, Registry registry, tls):
        cdef upstream_t* u = <upstream_t*>allocate(1, sizeof(upstream_t))

        self.body = u
        self.registry = registry
        self.spec = spec
        # A stamp of its own for each block: idle connections and verdicts of before a
        # change do not match the changed upstream, though its slot is the same.
        self.kept = tls
        self.stamp = registry.stamp()
        self.slot = registry.upstreams.take(spec.name)
        u.state = <upstream_state_t*>registry.upstreams.state(self.slot)
        u.stamp = self.stamp
        u.pool = pool
        u.keepalive = spec.keepalive
        u.keepalive_ms = ms_of(spec.keepalive_s)
        u.head_bytes = spec.response_head_bytes
        u.head_lines = spec.response_head_lines
        if tls is not None:
            u.tls = (<ClientContext>tls).contexts
            u.server_name = (<ClientContext>tls).name

    cdef upstream_t* upstream(self):
        return <upstream_t*>self.body

    def __dealloc__(self):
        cdef upstream_t* u = <upstream_t*>self.body

        if u == NULL:
            return
        if u.state != NULL:
            self.registry.upstreams.drop(self.slot)
        free(u)
