"""Consistent hashing by a table: rendezvous hashing, filled in ahead, within bounds.

A lookup is one load from a table of slots, as in Maglev; rendezvous hashing decides
which backend owns a slot, so that far fewer slots move. A change of one backend builds
the whole table again: that costs about as much as to look for the slots that must
change, and the table cannot depend on the one before.

The ring knows no address and no health: it gets ids and, for a rescore, which are up.
"""

import operator
import time

from libc.errno cimport EINVAL, ENOMEM
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, memset

from fastpath.ring.matching cimport match_slots
from fastpath.ring.rendezvous cimport (
    NO_SCORE,
    contender_compare,
    contender_init,
    contender_score,
)

cdef enum:
    SLOTS_PER_BACKEND = 100  # Maglev's rule: one slot is 1 % of a share
    LEAST_PER_BACKEND = 16   # where that would take more than 65537


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


# Fill `r.owner` and `r.second`. Return 0 or -ENOMEM.
cdef int fill(ring_t* r) noexcept nogil:
    cdef uint32_t slot
    cdef int failed

    failed = match_slots(r.contenders, r.live, r.size, r.owner, r.second)
    if failed < 0:
        return failed
    for slot in range(r.size):
        r.owner[slot] = r.contenders[r.owner[slot]].index
        r.second[slot] = r.contenders[r.second[slot]].index
    return 0


cdef uint32_t size_for(uint32_t n) noexcept nogil:
    # Primes by custom, so that tables compare with Maglev's; nothing here needs one.
    cdef uint32_t wanted = n * SLOTS_PER_BACKEND

    if wanted <= 1021:
        return 1021
    if wanted <= 4093:
        return 4093
    if wanted <= 16381:
        return 16381
    return 65537 if n * LEAST_PER_BACKEND <= 65537 else 262139


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
            result = fill(r)
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


cdef inline uint64_t next_hash(uint64_t hash) noexcept nogil:
    # Knuth's linear congruence: one multiplication, and the upper bits are random.
    return hash * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407


cdef inline uint16_t look_up(
    const uint16_t* owners, uint32_t size, uint64_t hash, bint modulo
) noexcept nogil:
    return owners[(hash >> 16) % size if modulo else ((hash >> 32) * size) >> 32]


# Look `count` hashes up; return the sum of what was found. Two loops, because in one
# the compiler makes all hashes wait as soon as some do.
cdef uint64_t look_up_many(
    const uint16_t* owners, uint32_t size, uint64_t count, bint modulo, bint chained
) noexcept nogil:
    cdef uint64_t hash = 1
    cdef uint64_t found = 0
    cdef uint64_t _i

    if chained:
        for _i in range(count):
            hash = next_hash(hash + look_up(owners, size, hash, modulo))
        return hash
    for _i in range(count):
        hash = next_hash(hash)
        found += look_up(owners, size, hash, modulo)
    return found


def time_lookups(
    bytes owners, uint64_t count, *, bint modulo=False, bint chained=False
):
    """Return the nanoseconds of CPU time per lookup of random hashes, in C.

    Args:
        owners: The table, two bytes per slot, native order.
        count: How many lookups to take the mean of.
        modulo: Find the slot by division, as Maglev does, not as a ring does.
        chained: Let each hash wait for the lookup before it, so that the result is
            the time until the answer is there, not what one more lookup costs.
    """
    cdef const uint16_t* table = <const uint16_t*><const char*>owners
    cdef uint32_t size = len(owners) // 2
    cdef volatile uint64_t unused  # else the compiler leaves the work out

    if size == 0 or count == 0:
        raise ValueError("nothing to look up")
    began_ns = time.thread_time_ns()
    unused = look_up_many(table, size, count, modulo, chained)
    return (time.thread_time_ns() - began_ns) / count


def hash_bytes(bytes data):
    """Return the hash that the core takes of addresses, below 2**64."""
    return ring_hash_bytes(<const uint8_t*><const char*>data, len(data))


def _checked(items, size):
    """Return `items` as pairs of int that a ring takes, or raise ValueError."""
    pairs = [(operator.index(key), operator.index(weight)) for key, weight in items]
    if not 0 < len(pairs) <= RING_MOST_BACKENDS:
        raise ValueError(
            f"a ring takes 1-{RING_MOST_BACKENDS} backends, not {len(pairs)}"
        )
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
        items: 1-16384 pairs: an id below 2**64, each once, and a weight up to 2**20,
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
