"""Flows by client and address: open addressing, at most half full, nothing marked as
deleted, so that a run of taken places is short. See `table/table` for vips likewise.
"""

from libc.errno cimport ENOMEM
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from fastpath.base.addr cimport address_of
from fastpath.ring.rendezvous cimport mix64

cdef enum:
    PLACES_LEAST = 256


cdef void index_init(index_t* x, uint64_t secret) noexcept nogil:
    memset(x, 0, sizeof(index_t))
    x.secret = secret


cdef void index_fini(index_t* x) noexcept nogil:
    free(x.places)
    x.places = NULL
    x.mask = 0
    x.count = 0


cdef uint32_t index_hash(const index_t* x, const key_t* key) noexcept nogil:
    cdef uint64_t words[5]
    cdef uint64_t h = x.secret
    cdef int i

    memcpy(words, key, sizeof(words))  # 40 bytes, none of them padding
    for i in range(5):
        h = mix64(h ^ words[i]) + x.secret
    return <uint32_t>(h >> 32)


cdef bint key_same(const key_t* a, const key_t* b) noexcept nogil:
    return memcmp(a, b, sizeof(key_t)) == 0


cdef void place_put(index_t* x, uint32_t hash, uint32_t number) noexcept nogil:
    cdef uint32_t at = hash & x.mask

    while x.places[at].number != 0:
        at = (at + 1) & x.mask
    x.places[at].hash = hash
    x.places[at].number = number + 1


cdef int index_grow(index_t* x) noexcept nogil:
    cdef uint32_t room = (x.mask + 1) * 2 if x.places != NULL else PLACES_LEAST
    cdef place_t* old = x.places
    cdef uint32_t old_room = x.mask + 1 if old != NULL else 0
    cdef place_t* places = <place_t*>calloc(room, sizeof(place_t))
    cdef uint32_t i

    if places == NULL:
        return -ENOMEM
    x.places = places
    x.mask = room - 1
    for i in range(old_room):
        if old[i].number != 0:
            place_put(x, old[i].hash, old[i].number - 1)
    free(old)
    return 0


cdef int index_put(index_t* x, uint32_t hash, uint32_t number) noexcept nogil:
    if (x.places == NULL or 2 * (x.count + 1) > x.mask + 1) and index_grow(x) < 0:
        return -ENOMEM
    place_put(x, hash, number)
    x.count += 1
    return 0


cdef void index_drop(index_t* x, uint32_t hash, uint32_t number) noexcept nogil:
    cdef uint32_t at = hash & x.mask
    cdef uint32_t next, home

    while x.places[at].number != number + 1:
        at = (at + 1) & x.mask
    # Move those behind it, so that no search ends early (Knuth, 6.4, algorithm R).
    next = at
    while True:
        next = (next + 1) & x.mask
        if x.places[next].number == 0:
            break
        home = x.places[next].hash & x.mask
        if ((next - home) & x.mask) >= ((next - at) & x.mask):
            x.places[at] = x.places[next]
            at = next
    x.places[at].number = 0
    x.count -= 1


cdef class FlowIndex:
    """The index for tests; flows are keys in a list. Few `bits` make hashes collide."""

    cdef index_t index
    cdef uint32_t bits
    cdef list keys

    def __cinit__(self, uint64_t secret=1, uint32_t bits=32):
        index_init(&self.index, secret)
        self.bits = bits
        self.keys = []

    def __dealloc__(self):
        index_fini(&self.index)

    cdef uint32_t _hash(self, tuple key):
        cdef key_t k
        memset(&k, 0, sizeof(k))
        address_of(&k.client, key[0], key[1])
        address_of(&k.dialled, key[2], key[3])
        return index_hash(&self.index, &k) & <uint32_t>((<uint64_t>1 << self.bits) - 1)

    def put(self, tuple key):
        """Take in (client, port, dialled, port), which is not there."""
        self.keys.append(key)
        if index_put(&self.index, self._hash(key), len(self.keys) - 1) < 0:
            raise MemoryError

    def find(self, tuple key):
        """Number of the key, or None."""
        cdef uint32_t hash = self._hash(key)
        cdef uint32_t at

        if self.index.places == NULL:
            return None
        at = index_next(&self.index, hash, hash)
        while self.index.places[at].number != 0:
            number = self.index.places[at].number - 1
            if self.keys[number] == key:
                return number
            at = index_next(&self.index, hash, at + 1)
        return None

    def drop(self, tuple key):
        """Take out a key that is there."""
        index_drop(&self.index, self._hash(key), self.find(key))

    def __len__(self):
        return self.index.count
