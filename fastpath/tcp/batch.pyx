"""The reads of a turn first, then its writes, so that the kernel's code for each stays
in the CPU's cache. Relays of small requests and responses gain most by that.
"""

from libc.errno cimport EAGAIN, EINTR

from fastpath.base.end cimport END_READABLE, END_WRITABLE, end_t
from fastpath.base.half cimport (
    MODE_SPLICE,
    MOVE_SOURCE_FAILED,
    half_give,
    half_read,
    half_t,
)
from fastpath.base.linux.file cimport EPOLLIN
from fastpath.base.poller cimport (
    TAG_RELAY_DOWN,
    TAG_RELAY_UP,
    tag_generation,
    tag_index,
    tag_kind,
)
from fastpath.base.spill cimport SCRATCH_BYTES
from fastpath.tcp.relay cimport (
    RELAY_FLOWING,
    SIDE_DOWN,
    SIDE_UP,
    relay_at,
    relay_move,
    relay_moved,
    relay_t,
    side_other,
    side_t,
)


# The relay of a message or an event, unless it is no more.
cdef inline relay_t* living(
    relays_t* rs, uint32_t index, uint32_t generation
) noexcept nogil:
    cdef relay_t* r = relay_at(rs, index)

    if r.state != RELAY_FLOWING or r.slot.generation != generation:
        return NULL
    return r


# Whether `r` copies from `side` and nothing stands in the way.
cdef inline bint copies(const relay_t* r, side_t side) noexcept nogil:
    cdef const half_t* h = &r.half[side]

    return (
        h.mode != MODE_SPLICE
        and h.streak == 0
        and h.spill == NULL
        and h.pipe == NULL
        and not h.ended
        and not r.slot.queued
        and not r.end[side].rdhup_seen
        and r.end[side_other(side)].writable == END_WRITABLE
    )


cdef void batch_send(batch_t* b, relays_t* rs) noexcept nogil:
    cdef message_t* message
    cdef relay_t* r
    cdef half_t* h
    cdef uint64_t before
    cdef uint32_t at = 0
    cdef uint32_t i

    for i in range(b.count):
        message = &b.messages[i]
        r = living(rs, message.index, message.generation)
        if r != NULL:
            h = &r.half[message.source]
            before = h.bytes
            move = half_give(
                &rs.c.mover, h, &r.end[side_other(message.source)], at, message.size
            )
            relay_moved(rs, r, message.source, move, h.bytes - before)
        at += message.size
    b.count = 0
    b.used = 0


cdef bint batch_read(
    batch_t* b, relays_t* rs, uint64_t tag, uint32_t events
) noexcept nogil:
    cdef side_t side = SIDE_DOWN if tag_kind(tag) == TAG_RELAY_DOWN else SIDE_UP
    cdef relay_t* r
    cdef end_t* src
    cdef ssize_t n

    if events != EPOLLIN or (side == SIDE_UP and tag_kind(tag) != TAG_RELAY_UP):
        return False
    r = living(rs, tag_index(tag), tag_generation(tag))
    if r == NULL or not copies(r, side):
        return False
    src = &r.end[side]
    src.readable = END_READABLE
    n = half_read(&rs.c.mover, &r.half[side], src, b.used)
    if n == -EAGAIN:
        return True
    if n == 0 or n == -EINTR:
        return False  # a FIN or more: not for a batch
    if n > 0:
        batch_keep(b, r, side, n)
    if n < 0 or n > BATCH_SMALL or batch_full(b):
        batch_send(b, rs)
    if n < 0 or src.readable:
        batch_go_on(rs, tag, side, n)
    return True


cdef inline bint batch_full(const batch_t* b) noexcept nogil:
    return b.count == BATCH_MOST or b.used > SCRATCH_BYTES // 2


cdef void batch_keep(
    batch_t* b, const relay_t* r, side_t side, ssize_t n
) noexcept nogil:
    cdef message_t* message = &b.messages[b.count]

    message.index = r.slot.index
    message.generation = r.slot.generation
    message.source = side
    message.size = <uint32_t>n
    b.count += 1
    b.used += message.size


# The source has failed (n is -errno), or has more than fitted in.
cdef void batch_go_on(
    relays_t* rs, uint64_t tag, side_t side, ssize_t n
) noexcept nogil:
    cdef relay_t* r = living(rs, tag_index(tag), tag_generation(tag))

    if r == NULL:
        return
    if n > 0:
        relay_move(rs, r, side)
        return
    rs.c.mover.error = <int>-n
    relay_moved(rs, r, side, MOVE_SOURCE_FAILED, 0)
