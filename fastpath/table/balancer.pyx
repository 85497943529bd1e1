"""Balancing: one function for each policy, each over one tier.

Every policy returns NULL only if its tier has no usable backend. Weights are kept by
chance (random, two choices), by order (round robin), by relays per weight (least) or
by share of the ring. A backend that came back gets a part of its picks: slow start.
"""

from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy, memset

from fastpath.base.addr cimport addr_parse
from fastpath.base.linux.atomic cimport (
    add_u32, load_u32, load_u64, store_u32, store_u64, sub_u32,
)
from fastpath.ring.ring cimport (
    ring_hash_bytes, ring_owner, ring_rescore, ring_second, ring_slot,
)
from fastpath.table.block cimport PoolBlock, VipBlock
from fastpath.table.registry cimport (
    HEALTH_DEAD, HEALTH_DRAINING, HEALTH_READY, Registry,
)
from fastpath.table.table cimport (
    BALANCE_LEAST, BALANCE_RANDOM, BALANCE_RING, BALANCE_ROUND_ROBIN,
    MOST_RING_BACKENDS, tier_t,
)

cdef enum:
    SAMPLES = 8        # random tries before looking at every backend
    FULL = 256         # a whole share in slow start's fixed point
    EJECT_DOUBLINGS = 3  # of eject_ms, while dials go on failing: eightfold at most


cdef inline uint64_t random_next(uint64_t* seed) noexcept nogil:
    # splitmix64 (Steele, Lea, Flood 2014): a counter and a mixer; any seed is good.
    cdef uint64_t z
    seed[0] += <uint64_t>0x9E3779B97F4A7C15
    z = seed[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint32_t random_below(uint64_t* seed, uint32_t limit) noexcept nogil:
    return <uint32_t>(((random_next(seed) >> 32) * limit) >> 32)


cdef uint64_t source_hash(const addr_t* client) noexcept nogil:
    return ring_hash_bytes(client.ip, 16)


cdef uint64_t balancer_hash(
    const vip_t* v, const pool_t* pool, const addr_t* client
) noexcept nogil:
    cdef uint8_t tuple_[40]

    # By the client's address alone each client keeps its backend, on every vip of the
    # pool; by the 5-tuple the connections of one client are spread.
    if not pool.ring_5_tuple:
        return source_hash(client)
    memset(tuple_, 0, sizeof(tuple_))
    memcpy(tuple_, client.ip, 16)
    memcpy(tuple_ + 16, v.addr.ip, 16)
    memcpy(tuple_ + 32, &client.port, 2)
    memcpy(tuple_ + 34, &v.addr.port, 2)
    tuple_[36] = v.protocol
    return ring_hash_bytes(tuple_, 37)


cdef bint was_tried(const pick_t* ask, const backend_state_t* state) noexcept nogil:
    cdef uint32_t i

    for i in range(ask.tried_count):
        if ask.tried[i] == state.slot:
            return True
    return False


cdef uint32_t usable_share(
    const pool_t* pool, const backend_t* b, const pick_t* ask
) noexcept nogil:
    cdef uint64_t up_since_ms
    cdef uint64_t age_ms

    if b.weight == 0 or load_u32(&b.state.health) != HEALTH_READY:
        return 0
    # An ejection ends by itself: no timer, and no worker has to take it back.
    if load_u64(&b.state.ejected_until_ms) > ask.now_ms or was_tried(ask, b.state):
        return 0
    if pool.slow_start_ms == 0:
        return FULL
    up_since_ms = load_u64(&b.state.up_since_ms)
    # Another thread's clock may be a little ahead of this worker's `now`.
    age_ms = ask.now_ms - up_since_ms if ask.now_ms > up_since_ms else 0
    if up_since_ms == 0 or age_ms >= pool.slow_start_ms:
        return FULL
    # From a tenth: enough to show whether the backend works.
    return <uint32_t>(FULL // 10 + (FULL - FULL // 10) * age_ms // pool.slow_start_ms)


cdef backend_t* pick_weighted(const pool_t* pool, const tier_t* tier, uint64_t* seed
                              ) noexcept nogil:
    """One backend by weight, whatever its health; the tier has weight."""
    cdef uint32_t mark = random_below(seed, tier.weight)
    cdef uint32_t low = 0
    cdef uint32_t high = tier.count - 1
    cdef uint32_t middle

    # The first whose sum of weights exceeds the mark. One of weight 0 never is.
    while low < high:
        middle = (low + high) // 2
        if tier.upto[middle] > mark:
            high = middle
        else:
            low = middle + 1
    return &pool.backends[tier.first + low]


cdef backend_t* scan_random(
    const pool_t* pool, const tier_t* tier, const pick_t* ask, uint64_t* seed
) noexcept nogil:
    """By weight among the usable ones, in one pass (reservoir of one)."""
    cdef backend_t* chosen = NULL
    cdef uint32_t total = 0
    cdef uint32_t i, share

    for i in range(tier.first, tier.first + tier.count):
        share = usable_share(pool, &pool.backends[i], ask) * pool.backends[i].weight
        if share == 0:
            continue
        # The k-th replaces the choice with probability share / total: at the end each
        # was chosen in proportion, and no list of the usable ones was needed.
        total += share
        if random_below(seed, total) < share:
            chosen = &pool.backends[i]
    return chosen


cdef backend_t* pick_random(
    const pool_t* pool, const tier_t* tier, const pick_t* ask, uint64_t* seed
) noexcept nogil:
    cdef backend_t* b
    cdef uint32_t share
    cdef int _i

    # A few blind tries first: O(log n), and nearly always the first one is usable. In
    # slow start a backend declines a part of its picks. Then look at all.
    for _i in range(SAMPLES):
        b = pick_weighted(pool, tier, seed)
        share = usable_share(pool, b, ask)
        if share == FULL or random_below(seed, FULL) < share:
            return b
    return scan_random(pool, tier, ask, seed)


# Relays per weight that `b` would have with this one, for comparing.
cdef inline uint64_t burden(const backend_t* b, uint32_t share) noexcept nogil:
    return ((<uint64_t>load_u32(&b.state.active) + 1) << 32) // (share * b.weight)


cdef backend_t* pick_two_choices(
    const pool_t* pool, const tier_t* tier, const pick_t* ask, uint64_t* seed
) noexcept nogil:
    cdef backend_t* one = pick_random(pool, tier, ask, seed)
    cdef backend_t* other = one
    cdef int _i

    # Power of two choices (Mitzenmacher 2001): proxies that all choose the least loaded
    # of the same backends send a herd to it.
    if one == NULL or tier.count == 1:
        return one
    for _i in range(SAMPLES):
        other = pick_random(pool, tier, ask, seed)
        if other != one:
            break
    if other == NULL:  # all went down meanwhile
        return one
    # The sampling has allowed for slow start already: compare without it.
    return one if burden(one, FULL) <= burden(other, FULL) else other


cdef backend_t* pick_least(
    const pool_t* pool, const tier_t* tier, const pick_t* ask
) noexcept nogil:
    """Of equal ones the first after the one that won the last tie: they take turns."""
    cdef uint32_t end = tier.first + tier.count
    cdef uint32_t at = load_u32(&pool.state.next)
    cdef uint32_t chosen = end
    cdef uint64_t least = 0
    cdef bint tied = False
    cdef uint64_t load
    cdef uint32_t share
    cdef int _i

    # Once round the tier, from behind the winner of the last tie; `next` may be left
    # from another tier of the pool.
    if at < tier.first or at >= end:
        at = tier.first
    for _i in range(tier.count):
        share = usable_share(pool, &pool.backends[at], ask)
        if share != 0:
            load = burden(&pool.backends[at], share)
            if chosen == end or load < least:
                least = load
                chosen = at
                tied = False
            elif load == least:
                tied = True
        at = at + 1 if at + 1 < end else tier.first
    if chosen == end:
        return NULL
    # Written after a tie only, as workers share this cache line. Two that do so at once
    # may choose the same backend: a turn out of order, no more.
    if tied:
        store_u32(&pool.state.next, chosen + 1)
    return &pool.backends[chosen]


cdef backend_t* pick_round_robin(
    const pool_t* pool, const tier_t* tier, const pick_t* ask, uint64_t* seed
) noexcept nogil:
    cdef backend_t* b
    cdef uint32_t turn, share, i

    # A retry takes no turn, or with two backends a dead one would be met each time.
    if ask.tried_count > 0:
        return scan_random(pool, tier, ask, seed)
    turn = add_u32(&pool.state.next, 1) - 1
    for i in range(tier.rounds_size):
        b = &pool.backends[tier.first + tier.rounds[(turn + i) % tier.rounds_size]]
        share = usable_share(pool, b, ask)
        if share == FULL or random_below(seed, FULL) < share:
            if i > 0:  # the places that were passed over are used up, for all workers
                add_u32(&pool.state.next, i)
            return b
    # Return the turn, or the next tier skips backends.
    sub_u32(&pool.state.next, 1)
    return scan_random(pool, tier, ask, seed)


cdef backend_t* pick_ring(
    const pool_t* pool, const tier_t* tier, const pick_t* ask
) noexcept nogil:
    cdef uint32_t slot = ring_slot(tier.ring, ask.hash)
    cdef backend_t* b = &pool.backends[tier.first + ring_owner(tier.ring, slot)]
    cdef uint8_t usable[MOST_RING_BACKENDS]
    cdef int best
    cdef uint32_t i

    # The owner of the slot, then its second, both from a table; only if both are down,
    # the scores of all backends: so each client keeps its backend when another fails.
    if usable_share(pool, b, ask) != 0:
        return b
    b = &pool.backends[tier.first + ring_second(tier.ring, slot)]
    if usable_share(pool, b, ask) != 0:
        return b
    for i in range(tier.count):
        usable[i] = usable_share(pool, &pool.backends[tier.first + i], ask) != 0
    best = ring_rescore(tier.ring, slot, usable)
    return &pool.backends[tier.first + best] if best >= 0 else NULL


cdef backend_t* pick_any(
    const pool_t* pool, const pick_t* ask, uint64_t* seed
) noexcept nogil:
    """All are down, or are said to be: any that does not drain, by chance."""
    cdef backend_t* chosen = NULL
    cdef backend_t* b
    cdef uint32_t seen = 0
    cdef uint32_t i

    for i in range(pool.count):
        b = &pool.backends[i]
        if b.weight == 0 or was_tried(ask, b.state):
            continue
        if load_u32(&b.state.health) == HEALTH_DRAINING:
            continue
        seen += 1
        if random_below(seed, seen) == 0:
            chosen = b
    return chosen


cdef backend_t* balancer_pick(
    const pool_t* pool, const pick_t* ask, uint64_t* seed
) noexcept nogil:
    cdef const tier_t* tier
    cdef backend_t* b = NULL
    cdef uint32_t i

    # A tier is used only while no backend of those before it is usable.
    for i in range(pool.tier_count):
        tier = &pool.tiers[i]
        if tier.weight == 0:
            continue
        if pool.balance == BALANCE_RING:
            b = pick_ring(pool, tier, ask)
        elif pool.balance == BALANCE_LEAST:
            b = pick_least(pool, tier, ask)
        elif pool.balance == BALANCE_ROUND_ROBIN:
            b = pick_round_robin(pool, tier, ask, seed)
        elif pool.balance == BALANCE_RANDOM:
            b = pick_random(pool, tier, ask, seed)
        else:
            b = pick_two_choices(pool, tier, ask, seed)
        if b != NULL:
            return b
    return pick_any(pool, ask, seed) if pool.try_all_down else NULL


cdef VERDICT_ON_BACKEND balancer_failed(
    const pool_t* pool, backend_state_t* state, uint64_t now_ms
) noexcept nogil:
    cdef uint32_t failures = add_u32(&state.failures, 1)
    cdef uint32_t times

    if pool.eject_after == 0 or failures < pool.eject_after:
        return BACKEND_AS_BEFORE
    if load_u64(&state.ejected_until_ms) > now_ms:
        return BACKEND_AS_BEFORE  # ejected already: dialled because all are down
    times = load_u32(&state.ejections)
    store_u32(&state.ejections, times + 1)
    if times > EJECT_DOUBLINGS:
        times = EJECT_DOUBLINGS
    store_u64(&state.ejected_until_ms, now_ms + (<uint64_t>pool.eject_ms << times))
    return BACKEND_EJECTED


cdef VERDICT_ON_BACKEND balancer_succeeded(
    backend_state_t* state, uint64_t now_ms
) noexcept nogil:
    if load_u32(&state.failures) == 0:  # nearly always: no write to a shared line
        return BACKEND_AS_BEFORE
    store_u32(&state.failures, 0)  # only failures in a row count
    if load_u32(&state.ejections) == 0:
        return BACKEND_AS_BEFORE
    store_u32(&state.ejections, 0)
    store_u64(&state.ejected_until_ms, 0)
    store_u64(&state.up_since_ms, now_ms)
    return BACKEND_RECOVERED


cdef class Picker:
    """A pool and nothing else: the tests pick from it with a clock of their own."""

    cdef Registry registry
    cdef PoolBlock block
    cdef VipBlock vip
    cdef uint64_t seed

    def __cinit__(self, vip, uint64_t seed=1):
        self.registry = Registry()
        self.block = PoolBlock(vip.pool, "pool", self.registry)
        bound = (vip.host, vip.port)
        pools = (self.block.slot, self.block.slot)
        self.vip = VipBlock(vip, pools, bound, self.registry, None)
        self.seed = seed

    cdef backend_state_t* _state(self, key):
        return self.registry.backend(self.registry.named(key))

    cdef _key(self, backend_t* b):
        return self.registry.backends.key(b.state.slot)

    def pick(self, uint64_t now_ms=1, source="", tried=(), uint16_t port=40000):
        """Key of the backend picked for a client at `source`, or None."""
        cdef pick_t ask
        cdef addr_t client

        memset(&ask, 0, sizeof(ask))
        ask.now_ms = now_ms
        if source:
            addr_parse(&client, source.encode(), port)
            ask.hash = balancer_hash(
                self.vip.vip(), self.block.pool(), &client
            )
        for key in tried:
            ask.tried[ask.tried_count] = self._state(key).slot
            ask.tried_count += 1
        found = balancer_pick(self.block.pool(), &ask, &self.seed)
        return None if found == NULL else self._key(found)

    def set(self, key, health="ready", uint32_t active=0, uint64_t up_since_ms=0):
        """Say how a backend is."""
        cdef backend_state_t* state = self._state(key)
        state.health = {
            "ready": HEALTH_READY, "draining": HEALTH_DRAINING, "dead": HEALTH_DEAD
        }[health]
        state.active = active
        state.up_since_ms = up_since_ms

    def failed(self, key, uint64_t now_ms):
        """A dial failed; return whether that ejected the backend."""
        verdict = balancer_failed(self.block.pool(), self._state(key), now_ms)
        return verdict == BACKEND_EJECTED

    def succeeded(self, key, uint64_t now_ms):
        """A dial succeeded; return whether the backend recovered by that."""
        return balancer_succeeded(self._state(key), now_ms) == BACKEND_RECOVERED
