"""Tables: what Python says (fastpath.spec) as the structs that workers read."""

from types import MappingProxyType

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strlen

from fastpath.base.addr cimport addr_is_loopback, addr_parse, addr_to_sockaddr
from fastpath.base.linux.socket cimport AF_UNIX, sockaddr_un
from fastpath.ring.ring cimport ring_fini, ring_hash_bytes, ring_init
from fastpath.ring.rounds cimport rounds_new
from fastpath.tls.context cimport ClientContext, ServerContext

from fastpath.api.checks import UNIX as _UNIX
from fastpath.api.checks import split_network
from fastpath.api.errors import TableError
from fastpath.api.spec import Upstream, Vip

BALANCES = {
    "random": BALANCE_RANDOM,
    "two-choices": BALANCE_TWO_CHOICES,
    "least": BALANCE_LEAST,
    "round-robin": BALANCE_ROUND_ROBIN,
    "ring": BALANCE_RING,
}

PARTS = {
    ":method": PART_METHOD,
    ":host": PART_HOST,
    ":path": PART_PATH,
    ":segment": PART_SEGMENT,
    ":query": PART_QUERY,
    ":upgrade": PART_UPGRADE,
    ":source": PART_SOURCE,
    ":body": PART_BODY,
    ":certificate": PART_CERTIFICATE,
}


class Table:
    """All vips that an engine serves, and the upstreams of those that speak HTTP.

    Raises:
        TableError: two vips, or two backends of a pool, have one address, two
            upstreams one name, or an address is no IP literal.
    """

    __slots__ = ("upstreams", "vips")

    def __init__(self, vips=(), upstreams=()):
        addresses = set()
        by_key = {}
        for vip in vips:
            if not isinstance(vip, Vip):
                raise TableError(f"{vip!r} is not a Vip")
            address = _address(vip)
            if address in addresses:
                raise TableError(f"two vips on {vip.host} port {vip.port}")
            addresses.add(address)
            _check_backends(vip.pool.backends)
            by_key[vip.key] = vip
        self.vips = MappingProxyType(by_key)
        self.upstreams = MappingProxyType(_upstreams(upstreams))


def _upstreams(upstreams):
    by_name = {}
    for upstream in upstreams:
        if not isinstance(upstream, Upstream):
            raise TableError(f"{upstream!r} is not an Upstream")
        if upstream.name in by_name:
            raise TableError(f"two upstreams are named {upstream.name!r}")
        _check_backends(upstream.pool.backends)
        by_name[upstream.name] = upstream
    return by_name


def _check_backends(backends):
    addresses = set()
    for backend in backends:
        address = _address(backend)
        if address in addresses:
            where = f"{backend.host} port {backend.port}"
            raise TableError(f"backend {where} stands twice in a pool")
        addresses.add(address)


cdef bytes _address(named):
    """Address of a Vip or Backend; one may be written in many ways, mind IPv6."""
    cdef addr_t a
    if named.host.startswith(_UNIX):
        return named.host.encode()
    text = named.host.encode("ascii", "replace")

    # C would not see what comes after a NUL.
    if b"\0" in text or addr_parse(&a, text, named.port) < 0:
        raise TableError(f"{named.host!r} is not an IPv4 or IPv6 address")
    return (<const char*>&a)[:sizeof(addr_t)]


cdef void* allocate(size_t count, size_t size) except NULL:
    cdef void* block = calloc(count if count > 0 else 1, size)
    if block == NULL:
        raise MemoryError
    return block


cdef class PoolBlock:
    """A pool as workers read it. Built once, then never changed."""

    def __cinit__(self, spec, Registry registry):
        self.registry = registry
        self.taken = []
        self.paths = []
        self.pool = <pool_t*>allocate(1, sizeof(pool_t))
        _fill_pool(self.pool, spec)
        ordered = sorted(spec.backends, key=lambda b: (b.tier, b.host, b.port))
        self.pool.backends = <backend_t*>allocate(len(ordered), sizeof(backend_t))
        self.pool.count = len(ordered)
        for i, backend in enumerate(ordered):
            self._fill_backend(&self.pool.backends[i], backend)
        _fill_tiers(self.pool, [b.tier for b in ordered])

    def __dealloc__(self):
        cdef int i

        for key in self.taken or ():
            self.registry.drop_backend(key)
        if self.pool == NULL:
            return
        for i in range(TIERS):
            free(self.pool.tiers[i].upto)
            free(self.pool.tiers[i].rounds)
            if self.pool.tiers[i].ring != NULL:
                ring_fini(self.pool.tiers[i].ring)
                free(self.pool.tiers[i].ring)
        free(self.pool.backends)
        free(self.pool)

    cdef _fill_backend(self, backend_t* b, spec):
        cdef uint32_t slot = self.registry.take_backend(spec.key)
        self.taken.append(spec.key)
        b.weight = spec.weight
        if spec.host.startswith(_UNIX):
            path = spec.host[len(_UNIX):].encode()
            self.paths.append(path)
            b.path = path
            b.addr.family = AF_UNIX
            b.loopback = True
        else:
            addr_parse(&b.addr, spec.host.encode(), spec.port)
            b.loopback = addr_is_loopback(&b.addr)
        b.state = self.registry.backend(slot)


cdef _fill_pool(pool_t* pool, spec):
    pool.balance = BALANCES[spec.balance]
    pool.ring_5_tuple = spec.ring_key == "5-tuple"
    pool.try_all_down = spec.on_all_down == "try"
    pool.tries = spec.connect_tries
    pool.eject_after = spec.eject_after
    pool.eject_ms = _ms(spec.eject_s)
    pool.connect_ms = _ms(spec.connect_timeout_s)
    pool.slow_start_ms = _ms(spec.slow_start_s)


cdef socklen_t backend_sockaddr(
    const backend_t* b, sockaddr_storage* into
) noexcept nogil:
    cdef sockaddr_un* un = <sockaddr_un*>into

    if b.path == NULL:
        return addr_to_sockaddr(&b.addr, into)
    memset(un, 0, sizeof(sockaddr_un))
    un.sun_family = AF_UNIX
    memcpy(un.sun_path, b.path, strlen(b.path))  # spec.py bounds it
    return sizeof(sockaddr_un)


cdef uint32_t _ms(seconds) except *:
    """Milliseconds; only 0 is 0, which has a meaning of its own to the core."""
    return max(1, round(seconds * 1000)) if seconds > 0 else 0


cdef _fill_tiers(pool_t* pool, list numbers):
    cdef tier_t* tier = NULL
    cdef uint32_t i

    for i in range(pool.count):
        if i == 0 or numbers[i] != numbers[i - 1]:
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

    tier.upto = <uint32_t*>allocate(tier.count, sizeof(uint32_t))
    for i in range(tier.count):
        tier.weight += pool.backends[tier.first + i].weight
        tier.upto[i] = tier.weight


cdef _fill_rounds(pool_t* pool, tier_t* tier):
    cdef uint32_t i
    weights = [pool.backends[tier.first + i].weight for i in range(tier.count)]

    tier.rounds = rounds_new(weights, &tier.rounds_size)


cdef _fill_ring(pool_t* pool, tier_t* tier):
    cdef uint64_t* ids = <uint64_t*>allocate(tier.count, sizeof(uint64_t))
    cdef uint32_t* weights = NULL
    cdef backend_t* b
    cdef uint32_t i
    cdef int failed

    try:
        if tier.weight == 0:
            return
        weights = <uint32_t*>allocate(tier.count, sizeof(uint32_t))
        for i in range(tier.count):
            b = &pool.backends[tier.first + i]
            # The address is the identity: replicas that agree on it agree on all.
            ids[i] = ring_hash_bytes(<const uint8_t*>&b.addr, sizeof(addr_t))
            if b.path != NULL:
                ids[i] = ring_hash_bytes(<const uint8_t*>b.path, strlen(b.path))
            weights[i] = b.weight
        tier.ring = <ring_t*>allocate(1, sizeof(ring_t))
        failed = ring_init(tier.ring, ids, weights, tier.count, 0)
        if failed < 0:
            raise MemoryError if failed == -12 else TableError("ring")
    finally:
        free(ids)
        free(weights)


cdef class VipBlock:
    """A vip as workers read it: limits, timeouts and a pool. Or an upstream.

    `bound` is where a vip listens, and the number of workers; of an upstream, its stamp
    and the number of workers.
    """

    def __cinit__(self, spec, PoolBlock pool, uint32_t slot, tuple bound):
        cdef Registry registry = pool.registry

        self.spec = spec
        self.pool = pool
        self.slot = slot
        self.vip = <vip_t*>allocate(1, sizeof(vip_t))
        self.vip.pool = pool.pool
        self.vip.state = registry.vip(slot)
        if isinstance(spec, Upstream):
            self._fill_uplink(spec, bound)
        else:
            self._fill_vip(spec, bound)

    def __dealloc__(self):
        if self.vip != NULL:
            free(self.vip.trusted)
            free(self.vip.http)
            free(self.vip.uplink)
            free(self.vip)

    cdef _fill_vip(self, spec, tuple bound):
        cdef ServerContext context

        if not bound[0].startswith(_UNIX):
            addr_parse(&self.vip.addr, bound[0].encode(), bound[1])
        self.vip.idle_ms = _ms(spec.idle_timeout_s)
        self.vip.max_live = spec.max_connections
        self.vip.max_live_source = spec.max_connections_per_source
        self.vip.max_new = spec.max_new_per_s
        self.vip.max_new_source = spec.max_new_per_s_per_source
        self.vip.listen.keepalive_s = <int>spec.keepalive_s
        self.vip.listen.user_timeout_ms = <int>(spec.user_timeout_s * 1000)
        self.vip.listen.client_first = spec.client_first
        self.vip.listen.backlog = spec.backlog
        if spec.proxy_protocol_from:
            self._fill_trusted(spec.proxy_protocol_from)
        if spec.http is not None:
            self._fill_http(spec.http)
        if spec.tls is not None:
            context = ServerContext(spec.tls, bound[2])
            self.kept.append(context)
            self.vip.http.tls = context.contexts

    cdef _fill_trusted(self, networks):
        cdef network_t* network

        self.vip.trusted = <network_t*>allocate(len(networks), sizeof(network_t))
        for text in networks:
            network = &self.vip.trusted[self.vip.trusted_count]
            host, network.bits = split_network(text)
            addr_parse(&network.addr, host.encode(), 0)
            self.vip.trusted_count += 1

    cdef _fill_http(self, spec):
        cdef http_t* http = <http_t*>allocate(1, sizeof(http_t))
        cdef part_t* part

        self.vip.http = http
        http.header_ms = _ms(spec.header_timeout_s)
        http.idle_ms = _ms(spec.idle_timeout_s)
        http.park_ms = _ms(spec.park_timeout_s)
        http.stall_ms = _ms(spec.stall_timeout_s)
        http.gateway_status = spec.gateway_status
        http.log = spec.log
        self.kept = [name.encode() for name in spec.key]
        for i, name in enumerate(spec.key):
            part = &http.parts[i]
            part.kind = PARTS.get(name, PART_HEADER)
            header = b"upgrade" if name == ":upgrade" else self.kept[i]
            self.kept.append(header)
            part.name = header
            part.size = len(header)
            http.part_count += 1

    cdef _fill_uplink(self, spec, tuple bound):
        cdef uplink_t* uplink = <uplink_t*>allocate(1, sizeof(uplink_t))
        cdef ClientContext context

        self.vip.uplink = uplink
        self.stamp = bound[0]
        uplink.stamp = self.stamp
        uplink.keepalive = spec.keepalive
        uplink.keepalive_ms = _ms(spec.keepalive_s)
        if spec.tls is None:
            return
        context = ClientContext(spec.tls, bound[1])
        self.kept = context
        uplink.tls = context.contexts
        uplink.server_name = context.name


cdef class TableBlock:
    """A generation. `opened` maps slots to lists of fds, `gone` lists slots."""

    def __cinit__(self, uint64_t generation, uint32_t size, blocks, opened, gone):
        cdef VipBlock block
        cdef uint32_t i

        self.blocks = list(blocks)
        self.table = <table_t*>allocate(1, sizeof(table_t))
        self.table.generation = generation
        self.table.size = size
        self.table.vips = <vip_t**>allocate(size, sizeof(vip_t*))
        for block in self.blocks:
            self.table.vips[block.slot] = block.vip
        self.table.changes = <change_t*>allocate(
            len(opened) + len(gone), sizeof(change_t)
        )
        for slot in gone:
            self.table.changes[self.table.change_count].vip = slot
            self.table.change_count += 1
        for slot, fds in opened.items():
            i = self.table.change_count
            self.table.changes[i].vip = slot
            self.table.changes[i].fds = <int*>allocate(len(fds), sizeof(int))
            for worker, fd in enumerate(fds):
                self.table.changes[i].fds[worker] = fd
            self.table.change_count += 1

    def __dealloc__(self):
        cdef uint32_t i

        if self.table == NULL:
            return
        for i in range(self.table.change_count):
            free(self.table.changes[i].fds)
        free(self.table.changes)
        free(self.table.vips)
        free(self.table)
