# Which backend a source had last: pins, for pools with affinity. One table for all
# workers, bounded, without a lock: an entry is one word, and where two workers write
# the same one the later pin stands.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    AFFINITY_WAYS = 8           # places of a pin: a cache line
    AFFINITY_NONE = 0xffffffff

cdef struct affinity_t:
    uint64_t* entries           # owned; atomic; workers
    uint32_t  sets              # a power of two, of AFFINITY_WAYS each

# Room for `most` pins, rounded up to a power of two. Return 0 or -ENOMEM.
cdef int affinity_init(affinity_t* a, uint32_t most) noexcept nogil
cdef void affinity_fini(affinity_t* a) noexcept nogil

# Slot of the backend that `key` was pinned to within the last `timeout_s` seconds; else
# AFFINITY_NONE. `key` is a good hash of the source and of what it is pinned for.
cdef uint32_t affinity_find(
    const affinity_t* a, uint64_t key, uint32_t now_s, uint32_t timeout_s
) noexcept nogil

# Pin `key` to a slot below 2**20 from now on. Return whether another pin, the longest
# unused of its set, made room.
cdef bint affinity_keep(
    affinity_t* a, uint64_t key, uint32_t slot, uint32_t now_s
) noexcept nogil
