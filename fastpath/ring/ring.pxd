# Consistent hashing: a table of slots, each with the backend that owns it and the one
# that stands in while the owner is down.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from fastpath.ring.rendezvous cimport contender_t, mix64

cdef enum:
    RING_MOST_BACKENDS = 16384
    RING_MOST_SLOTS = 1 << 20
    RING_MOST_WEIGHT = 1 << 20

# Read-only once built. Zeroed = finished.
cdef struct ring_t:
    uint16_t*    owner        # owned; of each slot, an index into the caller's arrays
    uint16_t*    second       # owned; best other backend of each slot; == owner if
                              #   no other has a weight
    uint32_t     size         # slots
    uint16_t     n            # backends, those of weight 0 included
    uint16_t     live         # contenders
    uint64_t*    ids          # owned copy; what the ring was built of
    uint32_t*    weights      # owned copy
    contender_t* contenders   # owned; those of weight > 0, in an order of their ids

# Build the ring of `n` (1-16384) backends, `ids` unique, `weights` up to 2**20, into
# `r`, which is not read. `size` is a number of slots up to 2**20, or 0 = the smallest
# of 1021, 4093, 16381 and 65537 that has 100 per backend, else 65537 up to 4096
# backends and 262139 beyond.
# What a backend owns depends on the set of (id, weight) and on the size, on nothing
# else: not on order, history or machine. A backend of weight 0 owns no slot, and
# counts only for the size. The others own their exact shares within 6 %; a share of
# less than 17 slots at most rounded up, at least rounded down less one.
# Two sizes have no more in common than two random tables: give one where `n` may
# cross from one to the next and that matters.
# Return 0; -EINVAL (see above, or no weight at all) or -ENOMEM, `r` then finished.
# Takes 0.06 to 0.6 us per slot, 10 ms for 1,000 backends in 65537 slots, so there is
# nothing to gain from an older ring when a backend comes, goes or changes its weight.
# For the applying thread, not for a worker.
cdef int ring_init(
    ring_t* r,
    const uint64_t* ids,
    const uint32_t* weights,
    uint16_t n,
    uint32_t size,
) noexcept nogil

# Free what `r` owns. An already finished ring is fine.
cdef void ring_fini(ring_t* r) noexcept nogil

# Return the best backend of `slot` among those with usable[index] != 0 and a weight,
# or -1 if there is none. O(backends): for when owner and second are both down.
cdef int ring_rescore(
    const ring_t* r, uint32_t slot, const uint8_t* usable
) noexcept nogil


# Return the slot of `hash`, by its upper half: a multiplication, no division.
cdef inline uint32_t ring_slot(const ring_t* r, uint64_t hash) noexcept nogil:
    return <uint32_t>(((hash >> 32) * r.size) >> 32)


cdef inline uint16_t ring_owner(const ring_t* r, uint32_t slot) noexcept nogil:
    return r.owner[slot]


cdef inline uint16_t ring_second(const ring_t* r, uint32_t slot) noexcept nogil:
    return r.second[slot]


# Hash of `n` bytes without a seed: the same on every replica, so not a defence
# against clients that choose their addresses. 2 ns per 8 bytes.
cdef inline uint64_t ring_hash_bytes(const uint8_t* bytes, size_t n) noexcept nogil:
    cdef uint64_t h = n
    cdef uint64_t word

    # Read as little-endian, as all machines that we support are.
    while n >= 8:
        memcpy(&word, bytes, 8)
        # 2**64 / golden ratio: zeros must not hash to zero.
        h = mix64((h ^ word) + <uint64_t>0x9e3779b97f4a7c15)
        bytes += 8
        n -= 8
    if n > 0:
        word = 0
        memcpy(&word, bytes, n)
        h = mix64((h ^ word) + <uint64_t>0x9e3779b97f4a7c15)
    return h
