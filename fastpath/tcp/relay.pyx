"""TCP relays: their memory, the moving of their bytes, their end.

Sources: RFC 9293 3.6 (half-close) and 3.5.3 (reset).
"""

from libc.errno cimport ENOMEM, EPIPE, ETIMEDOUT
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from fastpath.base.linux.atomic cimport store_u64, sub_u32
from fastpath.base.linux.debug cimport check
from fastpath.base.linux.file cimport (
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
    close,
)
from fastpath.base.linux.socket cimport SOL_SOCKET, SO_ERROR, getsockopt, socklen_t
from fastpath.base.mailbox cimport SLOT_ALL
from fastpath.base.poller cimport TAG_DOWN, TAG_UP, poller_add, poller_change, tag_make
from fastpath.base.socket cimport socket_keepalive, socket_reset
from fastpath.base.stats cimport (
    DROP_CLOSED,
    DROP_ENGINE_CLOSED,
    DROP_IDLE_TIMEOUT,
    DROP_NO_DESCRIPTORS,
    DROP_NO_MEMORY,
    DROP_RESET_BY_ADMIN,
    DROP_RESET_BY_BACKEND,
    DROP_RESET_BY_CLIENT,
    DROP_TIMED_OUT,
    backend_stats,
    vip_stats,
)
from fastpath.base.timer cimport timer_arm, timer_disarm
from fastpath.table.admission cimport vip_leave
from fastpath.table.table cimport vip_t
from fastpath.tcp.half cimport (
    END_FULL,
    END_HOPED,
    END_KEPT_ALIVE,
    END_POLLED,
    END_POLLED_OUT,
    END_WRITABLE,
    MOVE_DONE,
    MOVE_MORE,
    MOVE_NO_MEMORY,
    MOVE_SOURCE_FAILED,
    MOVE_TARGET_FAILED,
    half_holds,
    half_move,
    half_release,
)

cdef void relays_init(relays_t* rs, context_t* c) noexcept nogil:
    memset(rs, 0, sizeof(relays_t))
    rs.c = c
    rs.free = RELAY_NONE
    rs.run_first = RELAY_NONE
    rs.run_last = RELAY_NONE


cdef void relays_fini(relays_t* rs) noexcept nogil:
    cdef uint32_t i

    for i in range(rs.chunk_count * RELAY_CHUNK):
        if relay_at(rs, i).state != RELAY_FREE:
            relay_drop(rs, relay_at(rs, i), DROP_ENGINE_CLOSED)
    for i in range(rs.chunk_count):
        free(rs.chunks[i])
    free(rs.chunks)
    rs.chunks = NULL
    rs.chunk_count = 0


cdef int relays_grow(relays_t* rs) noexcept nogil:
    cdef uint32_t room = rs.chunk_room * 2 if rs.chunk_room > 0 else 16
    cdef relay_t** chunks
    cdef relay_t* r
    cdef uint32_t i

    if rs.chunk_count == rs.chunk_room:
        chunks = <relay_t**>realloc(rs.chunks, room * sizeof(relay_t*))
        if chunks == NULL:
            return -ENOMEM
        rs.chunks = chunks
        rs.chunk_room = room
    rs.chunks[rs.chunk_count] = <relay_t*>calloc(RELAY_CHUNK, sizeof(relay_t))
    if rs.chunks[rs.chunk_count] == NULL:
        return -ENOMEM
    rs.chunk_count += 1
    for i in range(rs.chunk_count * RELAY_CHUNK, (rs.chunk_count - 1) * RELAY_CHUNK,
                   -1):
        r = relay_at(rs, i - 1)
        r.index = i - 1
        r.next = rs.free
        rs.free = r.index
    return 0


cdef relay_t* relay_new(relays_t* rs, int fd) noexcept nogil:
    cdef relay_t* r
    cdef uint32_t index, generation

    if rs.free == RELAY_NONE and relays_grow(rs) < 0:
        return NULL
    r = relay_at(rs, rs.free)
    rs.free = r.next
    index = r.index
    generation = r.generation
    memset(r, 0, sizeof(relay_t))
    r.index = index
    r.generation = generation
    r.end[SIDE_DOWN].fd = fd
    r.end[SIDE_UP].fd = -1
    r.active_ms = rs.c.now_ms
    return r


cdef void relay_free(relays_t* rs, relay_t* r) noexcept nogil:
    # Events of the old relay that are still in the batch find another generation.
    r.generation = (r.generation + 1) & 0xfffffff
    r.next = rs.free
    rs.free = r.index


cdef void end_close(end_t* e, bint reset) noexcept nogil:
    if e.fd == -1:
        return
    if reset:
        socket_reset(e.fd)
    else:
        close(e.fd)
    e.fd = -1


cdef void relay_drop(relays_t* rs, relay_t* r, DROP reason) noexcept nogil:
    cdef bint reset = reason != DROP_CLOSED

    if reason == DROP_IDLE_TIMEOUT:
        # A FIN is kinder, but behind lost bytes it would claim that all arrived.
        reset = half_holds(&r.half[SIDE_DOWN]) or half_holds(&r.half[SIDE_UP])
    check(r.state != RELAY_FREE)
    timer_disarm(&r.timer)
    # Count before closing, as in context_refuse.
    if r.state == RELAY_FLOWING:
        vip_stats(&rs.c.stats, r.vip.slot).closed[<int>reason] += 1
    else:
        vip_stats(&rs.c.stats, r.vip.slot).refused[<int>reason] += 1
    vip_stats(&rs.c.stats, r.vip.slot).active -= 1
    store_u64(&rs.c.stats.active, rs.c.stats.active - 1)
    vip_leave(r.vip, r.source, r.by_source)
    if r.backend != NULL:
        sub_u32(&r.backend.active, 1)
        r.backend = NULL
    end_close(&r.end[SIDE_DOWN], reset)
    end_close(&r.end[SIDE_UP], reset)
    half_release(&rs.c.mover, &r.half[SIDE_DOWN])
    half_release(&rs.c.mover, &r.half[SIDE_UP])
    r.state = RELAY_FREE
    if not r.queued:  # else the run queue frees it when it comes by
        relay_free(rs, r)


# ---- Moving.

cdef void relay_count(
    relays_t* rs, relay_t* r, side_t source, uint64_t moved
) noexcept nogil:
    if moved > 0:
        r.active_ms = rs.c.now_ms
        vip_stats(&rs.c.stats, r.vip.slot).bytes[source] += moved
        backend_stats(&rs.c.stats, r.backend.slot).bytes[source] += moved


cdef bint relay_poll(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil:
    cdef end_t* e = &r.end[side]
    cdef uint64_t tag = tag_make(
        TAG_DOWN if side == SIDE_DOWN else TAG_UP, r.index, r.generation
    )
    cdef int failed

    events |= EPOLLPRI | EPOLLRDHUP | EPOLLET  # behind them a read comes short
    if e.flags & END_POLLED:
        failed = poller_change(&rs.c.poller, e.fd, events, tag)
    else:
        failed = poller_add(&rs.c.poller, e.fd, events, tag)
    if failed < 0:
        relay_drop(rs, r, DROP_NO_DESCRIPTORS)
        return False
    e.flags |= END_POLLED
    if events & EPOLLOUT:
        e.flags |= END_POLLED_OUT
    return True


cdef void relay_failed(
    relays_t* rs, relay_t* r, side_t side, int error
) noexcept nogil:
    if error == ETIMEDOUT:
        relay_drop(rs, r, DROP_TIMED_OUT)
    elif side == SIDE_DOWN:
        relay_drop(rs, r, DROP_RESET_BY_CLIENT)
    else:
        relay_drop(rs, r, DROP_RESET_BY_BACKEND)


cdef void relay_queue(relays_t* rs, relay_t* r) noexcept nogil:
    if r.queued:
        return
    r.queued = 1
    r.next = RELAY_NONE
    if rs.run_first == RELAY_NONE:
        rs.run_first = r.index
    else:
        relay_at(rs, rs.run_last).next = r.index
    rs.run_last = r.index


cdef bint relay_moved(
    relays_t* rs, relay_t* r, side_t source, MOVE move, uint64_t moved
) noexcept nogil:
    cdef side_t target = side_other(source)

    relay_count(rs, r, source, moved)
    if move == MOVE_MORE:
        relay_queue(rs, r)
    elif move == MOVE_SOURCE_FAILED:
        relay_failed(rs, r, source, rs.c.mover.error)
    elif move == MOVE_TARGET_FAILED:
        relay_broken(rs, r, target, rs.c.mover.error)
    elif move == MOVE_NO_MEMORY:
        relay_drop(rs, r, DROP_NO_MEMORY)
    elif move == MOVE_DONE:
        if r.half[source].last:
            relay_drop(rs, r, DROP_CLOSED)
        else:
            r.half[target].last = 1
    elif r.end[target].writable == END_FULL and (
        not r.end[target].flags & END_POLLED_OUT
    ):
        # Asked for when first needed: a relay that is never held up is never told.
        return relay_poll(rs, r, target, EPOLLIN | EPOLLOUT)
    return r.state != RELAY_FREE


cdef bint relay_move(relays_t* rs, relay_t* r, side_t source) noexcept nogil:
    cdef half_t* h = &r.half[source]
    cdef uint64_t before = h.bytes
    cdef MOVE move = half_move(
        &rs.c.mover, h, &r.end[source], &r.end[side_other(source)]
    )

    return relay_moved(rs, r, source, move, h.bytes - before)


cdef void relay_broken(
    relays_t* rs, relay_t* r, side_t side, int error
) noexcept nogil:
    """`side` was reset or timed out: hand on what it said before, then reset."""
    cdef half_t* h = &r.half[side]
    cdef end_t* target = &r.end[side_other(side)]
    cdef uint64_t before = h.bytes
    cdef socklen_t size = sizeof(error)
    cdef MOVE move = MOVE_MORE

    if error == 0:
        getsockopt(r.end[side].fd, SOL_SOCKET, SO_ERROR, &error, &size)
    # recv(2) says 0 behind the last byte, now that the error was fetched. It is a FIN
    # only if one came before the reset, which Linux tells by EPIPE.
    if error != EPIPE and target.writable == END_WRITABLE:
        target.writable = END_HOPED
    h.last = 0  # close(2) will not send that FIN, but a reset
    r.end[side].readable = 1
    r.end[side].rdhup_seen = 1
    while move == MOVE_MORE:  # its peer is gone: what waits is all there will be
        move = half_move(&rs.c.mover, h, &r.end[side], target)
    relay_count(rs, r, side, h.bytes - before)
    relay_failed(rs, r, side, error)


cdef void relay_event(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil:
    cdef end_t* e = &r.end[side]

    if events & EPOLLERR:
        relay_broken(rs, r, side, 0)
        return
    if events & EPOLLOUT and e.writable == END_FULL:
        e.writable = END_WRITABLE
        if not relay_move(rs, r, side_other(side)):
            return
    if events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP):
        e.readable = 1
        if events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP):
            e.rdhup_seen = 1
        relay_move(rs, r, side)


cdef void relay_timer(relays_t* rs, relay_t* r, const vip_t* v) noexcept nogil:
    cdef uint64_t idle_ms = v.idle_ms if v != NULL else 3600000
    cdef end_t* up = &r.end[SIDE_UP]

    if v != NULL and not up.flags & END_KEPT_ALIVE:
        # Not at once: most relays end before it could matter.
        up.flags |= END_KEPT_ALIVE
        socket_keepalive(up.fd, v.listen.keepalive_s, v.listen.user_timeout_ms)
    if r.active_ms + idle_ms <= rs.c.now_ms:
        relay_drop(rs, r, DROP_IDLE_TIMEOUT)
    else:
        timer_arm(&rs.c.wheel, &r.timer, r.active_ms + idle_ms)


cdef void relays_run(relays_t* rs) noexcept nogil:
    cdef uint32_t last = rs.run_last
    cdef uint32_t index = RELAY_NONE
    cdef relay_t* r

    # Those queued meanwhile wait for the next turn of the loop.
    while rs.run_first != RELAY_NONE and index != last:
        index = rs.run_first
        r = relay_at(rs, index)
        rs.run_first = r.next
        if rs.run_first == RELAY_NONE:
            rs.run_last = RELAY_NONE
        r.queued = 0
        if r.state == RELAY_FREE:
            relay_free(rs, r)
        elif relay_move(rs, r, SIDE_DOWN):
            relay_move(rs, r, SIDE_UP)


cdef uint32_t relays_reset(
    relays_t* rs, uint32_t slot, uint32_t first, uint32_t count
) noexcept nogil:
    cdef uint32_t end = rs.chunk_count * RELAY_CHUNK
    cdef uint32_t i
    cdef relay_t* r

    for i in range(first, first + count):
        if i >= end:
            return 0
        r = relay_at(rs, i)
        if r.state == RELAY_FREE:
            continue
        if slot == SLOT_ALL or (r.backend != NULL and r.backend.slot == slot):
            relay_drop(rs, r, DROP_RESET_BY_ADMIN)
    return first + count if first + count < end else 0
