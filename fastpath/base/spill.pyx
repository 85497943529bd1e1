"""Buffers that are lent for as long as bytes are inside, and kept for the next use."""

from libc.errno cimport ENOMEM
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastpath.base.pipe cimport pipe_list_fini, pipe_list_init


cdef int mover_init(
    mover_t* m, stats_t* stats, size_t pipe_bytes, int pipe_limit, bint splice
) noexcept nogil:
    memset(m, 0, sizeof(mover_t))
    m.stats = stats
    m.splice = splice
    m.turn = TURN_BYTES
    pipe_list_init(&m.pipes, pipe_bytes, pipe_limit)
    m.scratch = <char*>malloc(SCRATCH_BYTES)
    return 0 if m.scratch != NULL else -ENOMEM


cdef void mover_fini(mover_t* m) noexcept nogil:
    cdef spill_t* s

    while m.spills != NULL:
        s = m.spills
        m.spills = s.next
        free(s)
    pipe_list_fini(&m.pipes)
    free(m.scratch)
    m.scratch = NULL


cdef spill_t* spill_get(mover_t* m) noexcept nogil:
    cdef spill_t* s = m.spills

    if s != NULL:
        m.spills = s.next
        m.spill_count -= 1
    else:
        s = <spill_t*>malloc(sizeof(spill_t))
        if s == NULL:
            return NULL
    s.next = NULL
    s.first = 0
    s.used = 0
    s.room = SCRATCH_BYTES
    m.stats.spills += 1
    return s


cdef void spill_put(mover_t* m, spill_t* s) noexcept nogil:
    m.stats.spills -= 1
    if m.spill_count >= SPILLS_KEPT or s.room > SCRATCH_BYTES:
        free(s)
        return
    s.next = m.spills
    m.spills = s
    m.spill_count += 1


cdef spill_t* spill_grow(mover_t* m, spill_t* s, uint32_t room) noexcept nogil:
    cdef spill_t* grown = <spill_t*>malloc(sizeof(spill_t) - SCRATCH_BYTES + room)

    if grown == NULL:
        return NULL
    memcpy(grown.bytes, s.bytes + s.first, s.used)
    grown.next = s.next
    grown.first = 0
    grown.used = s.used
    grown.room = room
    m.stats.spills += 1
    spill_put(m, s)
    return grown


cdef spill_t* spill_of(mover_t* m, const char* bytes, size_t size) noexcept nogil:
    cdef spill_t* s = spill_get(m)

    if s != NULL:
        memcpy(s.bytes, bytes, size)
        s.used = size
    return s
