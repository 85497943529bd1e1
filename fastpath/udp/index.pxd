# Flows of one worker by what they are between: a client, and the address it dialled.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.addr cimport addr_t

cdef struct key_t:
    addr_t  client
    addr_t  dialled

# Half of a slot is a hash, half the number of a flow: a search reads nothing else until
# the hash is right.
cdef struct place_t:
    uint32_t  hash
    uint32_t  number      # plus one; 0 = free

cdef struct index_t:
    uint32_t  mask
    uint32_t  count
    uint64_t  secret      # a client that does not know it cannot make searches long
    place_t*  places      # owned; NULL = empty

cdef void index_init(index_t* x, uint64_t secret) noexcept nogil
cdef void index_fini(index_t* x) noexcept nogil

cdef uint32_t index_hash(const index_t* x, const key_t* key) noexcept nogil

cdef bint key_same(const key_t* a, const key_t* b) noexcept nogil

# The first place from `at` on with that hash, where a search begins with `hash` itself;
# or a free one. Its number tells which: the caller compares keys, and asks again from
# one place further.
cdef inline uint32_t index_next(
    const index_t* x, uint32_t hash, uint32_t at
) noexcept nogil:
    at &= x.mask
    while x.places[at].number != 0 and x.places[at].hash != hash:
        at = (at + 1) & x.mask
    return at

# Put a number in that is not there. Return 0 or -ENOMEM.
cdef int index_put(index_t* x, uint32_t hash, uint32_t number) noexcept nogil

# Take out a number that is there.
cdef void index_drop(index_t* x, uint32_t hash, uint32_t number) noexcept nogil
