# Numbered slots of one size that never move and are used again.
from libc.stdint cimport uint32_t
from libc.stdlib cimport free

cdef enum:
    SLAB_CHUNK = 128          # slots allocated at once
    SLAB_NONE = 0xffffffff

# What each slot begins with.
cdef struct slot_t:
    uint32_t index            # of this slot, for ever
    uint32_t generation       # 28 bits; another one after each use: see tag_make
    uint32_t next             # free list; SLAB_NONE = last
    uint32_t live

cdef struct slab_t:
    char**    chunks          # owned
    uint32_t  chunk_count
    uint32_t  chunk_room
    uint32_t  free            # head of the free list
    size_t    size            # bytes of a slot

# `size` includes the slot_t in front. Allocates nothing yet.
cdef void slab_init(slab_t* s, size_t size) noexcept nogil
cdef void slab_fini(slab_t* s) noexcept nogil

# A live slot, zeroed behind its slot_t; NULL = no memory.
cdef void* slab_take(slab_t* s) noexcept nogil

cdef void slab_give(slab_t* s, void* slot) noexcept nogil

# How many slots there are, live or not.
cdef inline uint32_t slab_count(const slab_t* s) noexcept nogil:
    return s.chunk_count * SLAB_CHUNK

cdef inline void* slab_at(const slab_t* s, uint32_t index) noexcept nogil:
    return s.chunks[index // SLAB_CHUNK] + (index % SLAB_CHUNK) * s.size

# The live slot that a tag or a letter names, or NULL: another may be there by now.
cdef inline void* slab_find(
    const slab_t* s, uint32_t index, uint32_t generation
) noexcept nogil:
    cdef slot_t* slot
    if index >= slab_count(s):
        return NULL
    slot = <slot_t*>slab_at(s, index)
    return slot if slot.live and slot.generation == generation else NULL
