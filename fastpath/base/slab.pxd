# Numbered slots of one size that never move and are used again; and the queue of those
# that had their turn and would go on.
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free

from fastpath.base.timer cimport timer_t

cdef enum:
    SLAB_CHUNK = 128          # slots allocated at once

# What a slot is, where slots of several slabs meet: in the run queue, in the wheel.
cdef enum KIND:
    KIND_OTHER
    KIND_RELAY
    KIND_CONN
    KIND_UPCONN
    KIND_FLOW

# What each slot begins with. Where it has a timer, that comes second: slot_of_timer.
cdef struct slot_t:
    uint32_t index            # of this slot, for ever
    uint32_t generation       # 28 bits; another one after each use: see tag_make
    slot_t*  next             # borrowed; in the run queue or the free list; NULL = last
    uint8_t  kind             # KIND; of its slab, for ever
    uint8_t  live
    uint8_t  queued           # in the run queue, live or not

cdef struct slab_t:
    char**    chunks          # owned
    uint32_t  chunk_count
    uint32_t  chunk_room
    slot_t*   free            # borrowed; head of the free list
    size_t    size            # bytes of a slot
    KIND      kind

# `size` includes the slot_t in front. Allocates nothing yet.
cdef void slab_init(slab_t* s, size_t size, KIND kind) noexcept nogil
cdef void slab_fini(slab_t* s) noexcept nogil

# A live slot, zeroed behind its slot_t; NULL = no memory.
cdef void* slab_take(slab_t* s) noexcept nogil

# The slot is live no more. One that is still in the run queue is not used again before
# it has come by there: see run_pop.
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

cdef inline slot_t* slot_of_timer(timer_t* t) noexcept nogil:
    return <slot_t*>(<char*>t - sizeof(slot_t))

# ---- What had its turn and would go on, oldest first. One for a worker.

cdef struct run_queue_t:
    slot_t*  first            # borrowed; NULL = empty
    slot_t*  last

# Let a live slot run again, once, after what is queued already.
cdef inline void run_push(run_queue_t* q, slot_t* slot) noexcept nogil:
    if slot.queued:
        return
    slot.queued = 1
    slot.next = NULL
    if q.first == NULL:
        q.first = slot
    else:
        q.last.next = slot
    q.last = slot

# The first of the queue, which must not be empty. If it is not live any more, it is due
# to slab_reclaim.
cdef inline slot_t* run_pop(run_queue_t* q) noexcept nogil:
    cdef slot_t* slot = q.first

    q.first = slot.next
    slot.queued = 0
    return slot

# A slot that was given back while it was queued can be used again.
cdef void slab_reclaim(slab_t* s, slot_t* slot) noexcept nogil
