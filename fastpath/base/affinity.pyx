"""Pins of sources to backends, eight to a cache line.

An entry has 22 bits of its key, 20 of a backend's slot and 22 of a time in seconds,
which wraps after 48 days. Two sources that agree in a set and in those 22 bits share a
pin: one in half a million, and both are served all the same.
"""

from libc.errno cimport ENOMEM
from libc.stdlib cimport calloc, free

from fastpath.base.linux.atomic cimport load_u64, store_u64

cdef enum:
    TIME_BITS = 22
    SLOT_BITS = 20
    TIME_MASK = 0x3fffff
    SLOT_MASK = 0xfffff
    TAG_SHIFT = 42


cdef int affinity_init(affinity_t* a, uint32_t most) noexcept nogil:
    a.sets = 1
    while a.sets * AFFINITY_WAYS < most:
        a.sets *= 2
    # calloc(3) of so much is fresh pages: what is not written takes no memory.
    a.entries = <uint64_t*>calloc(<size_t>a.sets * AFFINITY_WAYS, sizeof(uint64_t))
    return 0 if a.entries != NULL else -ENOMEM


cdef void affinity_fini(affinity_t* a) noexcept nogil:
    free(a.entries)
    a.entries = NULL


cdef inline uint64_t* affinity_set(const affinity_t* a, uint64_t key) noexcept nogil:
    return a.entries + (<uint32_t>key & (a.sets - 1)) * AFFINITY_WAYS


# The part of a key that its entry has; never 0, which is a free entry.
cdef inline uint64_t affinity_tag(uint64_t key) noexcept nogil:
    cdef uint64_t tag = key >> TAG_SHIFT
    return tag if tag != 0 else 1


cdef inline uint32_t affinity_age(uint64_t entry, uint32_t now_s) noexcept nogil:
    return (now_s - <uint32_t>(entry & TIME_MASK)) & TIME_MASK


cdef uint32_t affinity_find(
    const affinity_t* a, uint64_t key, uint32_t now_s, uint32_t timeout_s
) noexcept nogil:
    cdef uint64_t* set_ = affinity_set(a, key)
    cdef uint64_t entry
    cdef int i

    for i in range(AFFINITY_WAYS):
        entry = load_u64(&set_[i])
        if entry >> TAG_SHIFT != affinity_tag(key):
            continue
        # Another worker's clock may be a second ahead of ours: its pin looks old then,
        # by almost 48 days.
        if affinity_age(entry, now_s + 1) > timeout_s + 1:
            return AFFINITY_NONE
        return <uint32_t>(entry >> TIME_BITS) & SLOT_MASK
    return AFFINITY_NONE


cdef bint affinity_keep(
    affinity_t* a, uint64_t key, uint32_t slot, uint32_t now_s
) noexcept nogil:
    cdef uint64_t* set_ = affinity_set(a, key)
    cdef uint64_t tag = affinity_tag(key)
    cdef uint64_t entry
    cdef int oldest = 0
    cdef uint32_t age = 0
    cdef int i

    # The pin's own place, or a free one, or that of the pin that was not used for the
    # longest time.
    for i in range(AFFINITY_WAYS):
        entry = load_u64(&set_[i])
        if entry == 0 or entry >> TAG_SHIFT == tag:
            oldest = i
            break
        if affinity_age(entry, now_s) >= age:
            age = affinity_age(entry, now_s)
            oldest = i
    entry = load_u64(&set_[oldest])
    store_u64(
        &set_[oldest],
        tag << TAG_SHIFT | <uint64_t>slot << TIME_BITS | (now_s & TIME_MASK),
    )
    return entry != 0 and entry >> TAG_SHIFT != tag


cdef class Affinity:
    """A table of pins for tests."""

    cdef affinity_t affinity

    def __cinit__(self, uint32_t most):
        if affinity_init(&self.affinity, most) < 0:
            raise MemoryError

    def __dealloc__(self):
        affinity_fini(&self.affinity)

    def find(self, uint64_t key, uint32_t now_s, uint32_t timeout_s):
        slot = affinity_find(&self.affinity, key, now_s, timeout_s)
        return None if slot == AFFINITY_NONE else slot

    def keep(self, uint64_t key, uint32_t slot, uint32_t now_s):
        return affinity_keep(&self.affinity, key, slot, now_s)
