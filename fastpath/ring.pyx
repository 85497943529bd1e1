"""Consistent hashing by a table: rendezvous hashing, filled in ahead, within bounds.

Each slot goes to the backend that scores best at it. That alone gives shares that are
proportional to the weights, and moves only the leaver's slots when a backend leaves.
But shares by draw scatter, by 10 % where a backend has 100 slots. So there are two
corrections, each of which touches as few slots as it can:

 1. *At most*: slots and backends are matched as in stable marriage (Gale and Shapley,
    1962). A full backend keeps the slots in which it scores best; the others go to
    their next choice. The outcome does not depend on the order of the proposals.
 2. *At least*: a backend left with too few takes over the slots that it lost most
    narrowly, first among those whose second choice it is.

The ring knows no address and no health: it is told ids and, for a rescore, who is up.
"""

import time

from libc.errno cimport EINVAL, ENOMEM
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, memset

from fastpath.rendezvous cimport (
    NO_SCORE,
    choice_t,
    choose_next,
    choose_two,
    contender_compare,
    contender_init,
    contender_score,
)

cdef enum:
    SLOTS_PER_BACKEND = 100  # Maglev's rule: one slot is 1 % of a share
    SLACK_PERCENT = 6        # how far a share may be from what the weight asks for

# The slots that a contender may have and has.
cdef struct share_t:
    uint32_t least
    uint32_t most
    uint32_t count
    uint32_t first      # where its claims begin
    bint     is_heap    # its claims are, the worst on top; only once full

# A wish for a slot; the lower score is served first.
cdef struct claim_t:
    uint64_t score
    uint32_t slot
    uint32_t spare

# A ring being filled. Until the end `r.owner` and `r.second` hold places, that is,
# positions in `r.contenders`, not the caller's indices.
cdef struct filling_t:
    ring_t*   r         # borrowed
    share_t*  shares    # owned; one per place
    claim_t*  claims    # owned; of all places, one after another
    uint16_t* first     # owned; first choice of each slot


# --- at most: stable matching ---


cdef inline bint is_worse(const claim_t* a, const claim_t* b) noexcept nogil:
    return a.score > b.score or (a.score == b.score and a.slot > b.slot)


cdef void sift_down(claim_t* heap, uint32_t count, uint32_t at) noexcept nogil:
    cdef claim_t moving = heap[at]
    cdef uint32_t child = 2 * at + 1

    while child < count:
        if child + 1 < count and is_worse(&heap[child + 1], &heap[child]):
            child += 1
        if not is_worse(&heap[child], &moving):
            break
        heap[at] = heap[child]
        at = child
        child = 2 * at + 1
    heap[at] = moving


# Let a full backend choose between `claim` and what it has. The loser is in `claim`.
cdef void keep_the_best(
    filling_t* f, uint32_t place, claim_t* claim
) noexcept nogil:
    cdef share_t* share = &f.shares[place]
    cdef claim_t* heap = &f.claims[share.first]
    cdef claim_t loser
    cdef uint32_t i

    if not share.is_heap:
        share.is_heap = True
        for i in range(share.count // 2, 0, -1):
            sift_down(heap, share.count, i - 1)
    if is_worse(claim, &heap[0]):
        return
    loser = heap[0]
    heap[0] = claim[0]
    f.r.owner[claim.slot] = place
    sift_down(heap, share.count, 0)
    claim[0] = loser


# Give `slot` to the best backend that has room, or prefers it to one that it has;
# that one moves on likewise. Ends because all `most` together cover the slots.
cdef void settle(filling_t* f, uint32_t slot, choice_t choice) noexcept nogil:
    cdef claim_t claim
    cdef share_t* share

    claim.slot = slot
    claim.spare = 0
    while True:
        claim.score = choice.score
        share = &f.shares[choice.place]
        if share.count < share.most:
            f.claims[share.first + share.count] = claim
            share.count += 1
            f.r.owner[claim.slot] = choice.place
            return
        keep_the_best(f, choice.place, &claim)
        choice.score = claim.score
        choose_next(f.r.contenders, f.r.live, claim.slot, &choice)


# --- at least: taking over ---


cdef int claim_compare(const void* a, const void* b) noexcept nogil:
    cdef const claim_t* one = <const claim_t*>a
    cdef const claim_t* other = <const claim_t*>b

    return is_worse(one, other) - is_worse(other, one)


# Move slots to `place` until it has its least, the most narrowly lost ones first,
# from owners that have more than theirs. Unless `anywhere`, only those whose second
# choice it is: nearly always enough, and a hundredth of the work.
cdef void take_over(filling_t* f, uint32_t place, bint anywhere) noexcept nogil:
    cdef ring_t* r = f.r
    cdef share_t* share = &f.shares[place]
    cdef share_t* loser
    cdef uint32_t slot, i
    cdef uint32_t count = 0

    # The claims of the matching have done their work: their memory is free.
    for slot in range(r.size):
        if (anywhere or r.second[slot] == place) and r.owner[slot] != place:
            f.claims[count].slot = slot
            f.claims[count].score = (
                contender_score(&r.contenders[place], slot)
                - contender_score(&r.contenders[r.owner[slot]], slot)
            )
            count += 1
    qsort(f.claims, count, sizeof(claim_t), claim_compare)
    for i in range(count):
        if share.count >= share.least:
            return
        slot = f.claims[i].slot
        loser = &f.shares[r.owner[slot]]
        if loser.count > loser.least:
            loser.count -= 1
            share.count += 1
            r.owner[slot] = place


# --- building ---


# Fill `r.contenders` from ids and weights. Return 0 or -EINVAL.
cdef int line_up(ring_t* r) noexcept nogil:
    cdef uint32_t i

    for i in range(r.n):
        if r.weights[i] > RING_MOST_WEIGHT:
            return -EINVAL
        if r.weights[i] > 0:
            contender_init(&r.contenders[r.live], r.ids[i], r.weights[i], i)
            r.live += 1
    qsort(r.contenders, r.live, sizeof(contender_t), contender_compare)
    for i in range(1, r.live):
        if contender_compare(&r.contenders[i - 1], &r.contenders[i]) == 0:
            return -EINVAL
    return 0 if r.live > 0 else -EINVAL


# Lay down how many slots each may have. Return how many claims that can be.
cdef uint32_t share_out(filling_t* f) noexcept nogil:
    cdef ring_t* r = f.r
    cdef uint64_t total = 0
    cdef uint64_t exact  # times total
    cdef uint32_t claims = 0
    cdef share_t* share
    cdef uint32_t i

    for i in range(r.live):
        total += r.contenders[i].weight
    for i in range(r.live):
        share = &f.shares[i]
        exact = <uint64_t>r.size * r.contenders[i].weight
        # Inwards, so that the slack is kept to the slot; but not past the two whole
        # numbers beside the exact share, for then they would not add up.
        share.most = max(
            (exact + total - 1) // total,
            exact * (100 + SLACK_PERCENT) // (100 * total),
        )
        share.least = min(
            exact // total,
            (exact * (100 - SLACK_PERCENT) + 100 * total - 1) // (100 * total),
        )
        share.first = claims
        claims += share.most
    return max(claims, r.size)


cdef void fill(filling_t* f) noexcept nogil:
    cdef ring_t* r = f.r
    cdef choice_t two[2]
    cdef uint32_t slot, place

    for slot in range(r.size):
        choose_two(r.contenders, r.live, slot, two)
        f.first[slot] = two[0].place
        r.second[slot] = two[1].place if r.live > 1 else two[0].place
        settle(f, slot, two[0])
    for place in range(r.live):
        if f.shares[place].count < f.shares[place].least:
            take_over(f, place, False)
        if f.shares[place].count < f.shares[place].least:
            take_over(f, place, True)
    for slot in range(r.size):
        # Who had to leave its first choice has that as its second.
        if r.owner[slot] != f.first[slot]:
            r.second[slot] = f.first[slot]
        r.owner[slot] = r.contenders[r.owner[slot]].index
        r.second[slot] = r.contenders[r.second[slot]].index


cdef int build(ring_t* r) noexcept nogil:
    cdef filling_t f
    cdef int result = -ENOMEM

    f.r = r
    f.claims = NULL
    f.first = <uint16_t*>malloc(r.size * sizeof(uint16_t))
    f.shares = <share_t*>calloc(r.live, sizeof(share_t))
    if f.shares != NULL:
        f.claims = <claim_t*>malloc(share_out(&f) * sizeof(claim_t))
    if f.first != NULL and f.claims != NULL:
        fill(&f)
        result = 0
    free(f.first)
    free(f.shares)
    free(f.claims)
    return result


cdef uint32_t size_for(uint32_t n) noexcept nogil:
    # Primes by custom, so that tables compare with Maglev's; nothing here needs one.
    cdef uint32_t wanted = n * SLOTS_PER_BACKEND

    if wanted <= 1021:
        return 1021
    if wanted <= 4093:
        return 4093
    return 16381 if wanted <= 16381 else 65537


cdef int ring_init(
    ring_t* r,
    const uint64_t* ids,
    const uint32_t* weights,
    uint16_t n,
    uint32_t size,
) noexcept nogil:
    cdef int result = -ENOMEM

    memset(r, 0, sizeof(ring_t))
    if n == 0 or n > RING_MOST_BACKENDS or size > RING_MOST_SLOTS:
        return -EINVAL
    r.n = n
    r.size = size if size > 0 else size_for(n)
    r.owner = <uint16_t*>malloc(r.size * sizeof(uint16_t))
    r.second = <uint16_t*>malloc(r.size * sizeof(uint16_t))
    r.ids = <uint64_t*>malloc(n * sizeof(uint64_t))
    r.weights = <uint32_t*>malloc(n * sizeof(uint32_t))
    r.contenders = <contender_t*>calloc(n, sizeof(contender_t))
    if (
        r.owner != NULL and r.second != NULL and r.ids != NULL
        and r.weights != NULL and r.contenders != NULL
    ):
        memcpy(r.ids, ids, n * sizeof(uint64_t))
        memcpy(r.weights, weights, n * sizeof(uint32_t))
        result = line_up(r)
        if result == 0:
            result = build(r)
    if result < 0:
        ring_fini(r)
    return result


cdef void ring_fini(ring_t* r) noexcept nogil:
    free(r.owner)
    free(r.second)
    free(r.ids)
    free(r.weights)
    free(r.contenders)
    memset(r, 0, sizeof(ring_t))


cdef int ring_rescore(
    const ring_t* r, uint32_t slot, const uint8_t* usable
) noexcept nogil:
    cdef uint64_t best = NO_SCORE
    cdef uint64_t score
    cdef int index = -1
    cdef uint32_t place

    for place in range(r.live):
        if usable[r.contenders[place].index]:
            score = contender_score(&r.contenders[place], slot)
            if score < best:
                best = score
                index = r.contenders[place].index
    return index


# --- Python's face: for tests, benches and users of the library ---


# Look `count` hashes up; return something that the compiler cannot leave out.
cdef uint64_t look_up_many(
    const uint16_t* owners, uint32_t size, uint64_t count, bint modulo, bint chained
) noexcept nogil:
    cdef uint64_t hash = 1
    cdef uint64_t found = 0
    cdef uint16_t owner
    cdef uint64_t i

    for i in range(count):
        # Knuth's linear congruence: one multiplication; the upper bits are random.
        hash = hash * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407
        owner = owners[(hash >> 16) % size if modulo else ((hash >> 32) * size) >> 32]
        found += owner
        if chained:
            hash += owner
    return found


def time_lookups(bytes owners, uint64_t count, *, bint modulo=False, bint chained=False):
    """Return the nanoseconds per lookup of random hashes in a table, in C.

    Args:
        owners: The table, two bytes per slot, native order.
        count: How many lookups to take the mean of.
        modulo: Find the slot by division, as Maglev does, not as a ring does.
        chained: Let each hash wait for the lookup before it, so that the result is
            the time until the answer is there, not what one more lookup costs.
    """
    cdef const uint16_t* table = <const uint16_t*><const char*>owners
    cdef uint32_t size = len(owners) // 2

    if size == 0 or count == 0:
        raise ValueError("nothing to look up")
    began_ns = time.perf_counter_ns()
    look_up_many(table, size, count, modulo, chained)
    return (time.perf_counter_ns() - began_ns) / count


def hash_bytes(bytes data):
    """Return the hash that the core takes of addresses, below 2**64."""
    return ring_hash_bytes(<const uint8_t*><const char*>data, len(data))


def _checked(items, size):
    """Return `items` as a list of pairs that a ring takes, or raise ValueError."""
    pairs = [(key, weight) for key, weight in items]
    if not 0 < len(pairs) <= RING_MOST_BACKENDS:
        raise ValueError(f"a ring takes 1-4096 backends, not {len(pairs)}")
    for key, weight in pairs:
        if not 0 <= key < 1 << 64:
            raise ValueError(f"id {key} does not fit 64 bits")
        if not 0 <= weight <= RING_MOST_WEIGHT:
            raise ValueError(f"weight {weight} of id {key} is not in 0-{1 << 20}")
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("an id stands twice")
    if not any(weight for _, weight in pairs):
        raise ValueError("no backend has a weight")
    if not 0 <= size <= RING_MOST_SLOTS:
        raise ValueError(f"size {size} is not in 0-{1 << 20}")
    return pairs


cdef class Ring:
    """A consistent-hash table over (id, weight) pairs; immutable.

    Backends are named by their index in `items`. Which one owns a slot depends on the
    set of pairs and on the size alone, so that replicas agree; see ring.pxd.

    Args:
        items: 1-4096 pairs: an id below 2**64, each once, and a weight up to 2**20,
            not all of them 0.
        size: Slots, up to 2**20; 0 = by the number of pairs.

    Raises:
        ValueError: For items or a size out of these bounds.
    """

    cdef ring_t ring

    def __cinit__(self, items, size=0):
        cdef uint64_t* ids = NULL
        cdef uint32_t* weights = NULL
        cdef int failed = -ENOMEM
        cdef int i
        pairs = _checked(items, size)

        try:
            ids = <uint64_t*>malloc(len(pairs) * sizeof(uint64_t))
            weights = <uint32_t*>malloc(len(pairs) * sizeof(uint32_t))
            if ids != NULL and weights != NULL:
                for i, (key, weight) in enumerate(pairs):
                    ids[i] = key
                    weights[i] = weight
                failed = ring_init(&self.ring, ids, weights, len(pairs), size)
        finally:
            free(ids)
            free(weights)
        if failed < 0:
            raise MemoryError

    def __dealloc__(self):
        ring_fini(&self.ring)

    @property
    def size(self):
        """Number of slots."""
        return self.ring.size

    def slot(self, uint64_t hash):
        """Return the slot of `hash`."""
        return ring_slot(&self.ring, hash)

    def lookup(self, uint64_t hash):
        """Return the index of the backend that owns the slot of `hash`."""
        return ring_owner(&self.ring, ring_slot(&self.ring, hash))

    def second(self, uint64_t hash):
        """Return the index of the backend to take while that one is down."""
        return ring_second(&self.ring, ring_slot(&self.ring, hash))

    def rescore(self, uint32_t slot, usable):
        """Return the best index for `slot` where `usable[index]`, or -1 if none is.

        Raises:
            ValueError: For a slot that does not exist, or a `usable` that does not
                have one entry per backend.
        """
        flags = bytes(bool(fact) for fact in usable)
        if slot >= self.ring.size:
            raise ValueError(f"slot {slot} of {self.ring.size}")
        if len(flags) != self.ring.n:
            raise ValueError(f"{len(flags)} facts about {self.ring.n} backends")
        return ring_rescore(&self.ring, slot, <const uint8_t*><const char*>flags)

    def owners(self):
        """Return the owner of each slot, unsigned 16-bit, as a copy."""
        return _copied(self.ring.owner, self.ring.size)

    def seconds(self):
        """Return the second choice of each slot, likewise."""
        return _copied(self.ring.second, self.ring.size)

    def time_lookups(self, uint64_t count, *, bint chained=False):
        """Return the nanoseconds per lookup in this ring; see `time_lookups`."""
        return time_lookups(self.owners().obj, count, chained=chained)


cdef _copied(const uint16_t* indices, uint32_t size):
    return memoryview((<const char*>indices)[:size * sizeof(uint16_t)]).cast("H")
