"""Memory of connections: taken and given back without malloc on the way.

A slot that is dropped during its own work may still stand in the run queue. It counts
as dead at once, whichever code looks it up, and joins the free list when the queue has
passed it: no link is ever in two lists.
"""

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset


cdef void slab_init(slab_t* s, size_t size, KIND kind) noexcept nogil:
    memset(s, 0, sizeof(slab_t))
    s.size = size
    s.kind = kind


cdef void slab_fini(slab_t* s) noexcept nogil:
    cdef uint32_t i

    for i in range(s.chunk_count):
        free(s.chunks[i])
    free(s.chunks)
    s.chunks = NULL
    s.chunk_count = 0
    s.free = NULL


cdef bint slab_grow(slab_t* s) noexcept nogil:
    cdef uint32_t room = s.chunk_room * 2 if s.chunk_room > 0 else 16
    cdef uint32_t first = slab_count(s)
    cdef char** chunks
    cdef slot_t* slot
    cdef uint32_t i

    if s.chunk_count == s.chunk_room:
        chunks = <char**>realloc(s.chunks, room * sizeof(char*))
        if chunks == NULL:
            return False
        s.chunks = chunks
        s.chunk_room = room
    s.chunks[s.chunk_count] = <char*>calloc(SLAB_CHUNK, s.size)
    if s.chunks[s.chunk_count] == NULL:
        return False
    s.chunk_count += 1
    for i in range(first + SLAB_CHUNK, first, -1):
        slot = <slot_t*>slab_at(s, i - 1)
        slot.index = i - 1
        slot.kind = s.kind
        slot.next = s.free
        s.free = slot
    return True


cdef void* slab_take(slab_t* s) noexcept nogil:
    cdef slot_t* slot

    if s.free == NULL and not slab_grow(s):
        return NULL
    slot = s.free
    s.free = slot.next
    memset(<char*>slot + sizeof(slot_t), 0, s.size - sizeof(slot_t))
    slot.live = 1
    return slot


cdef void slab_give(slab_t* s, void* given) noexcept nogil:
    cdef slot_t* slot = <slot_t*>given

    slot.live = 0
    # Events that are still in the batch at hand find another generation.
    slot.generation = (slot.generation + 1) & 0xfffffff
    if not slot.queued:
        slab_reclaim(s, slot)


cdef void slab_reclaim(slab_t* s, slot_t* slot) noexcept nogil:
    slot.next = s.free
    s.free = slot


cdef class Slab:
    """A slab for tests; slots are named by (index, generation)."""

    cdef slab_t slab

    def __cinit__(self, size_t size=64):
        slab_init(&self.slab, sizeof(slot_t) + size, KIND_OTHER)

    def __dealloc__(self):
        slab_fini(&self.slab)

    def take(self):
        cdef slot_t* slot = <slot_t*>slab_take(&self.slab)
        if slot == NULL:
            raise MemoryError
        return slot.index, slot.generation

    def give(self, uint32_t index):
        slab_give(&self.slab, slab_at(&self.slab, index))

    def finds(self, uint32_t index, uint32_t generation):
        return slab_find(&self.slab, index, generation) != NULL

    def __len__(self):
        return slab_count(&self.slab)
