"""TCP relays: their memory, the moving of their bytes, their end.

Sources: RFC 9293 3.6 (half-close) and 3.5.3 (reset).
"""

from libc.errno cimport EPIPE, ETIMEDOUT
from libc.string cimport memset

from fastpath.base.end cimport (
    END_FULL,
    END_KEPT_ALIVE,
    END_NO_FIN,
    END_POLLED,
    END_POLLED_OUT,
    END_WRITABLE,
    end_close,
)
from fastpath.base.half cimport (
    MOVE_DONE,
    MOVE_MORE,
    MOVE_NO_MEMORY,
    MOVE_SOURCE_FAILED,
    MOVE_TARGET_FAILED,
    half_holds,
    half_move,
    half_release,
)
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
)
from fastpath.base.linux.socket cimport SOL_SOCKET, SO_ERROR, getsockopt, socklen_t
from fastpath.base.mailbox cimport SLOT_ALL
from fastpath.base.poller cimport (
    TAG_RELAY_DOWN,
    TAG_RELAY_UP,
    poller_add,
    poller_change,
    tag_make,
)
from fastpath.base.slab cimport (
    KIND_RELAY,
    run_push,
    slab_count,
    slab_fini,
    slab_give,
    slab_init,
    slab_reclaim,
    slab_take,
)
from fastpath.base.socket cimport socket_keepalive
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

cdef void relays_init(relays_t* rs, context_t* c) noexcept nogil:
    memset(rs, 0, sizeof(relays_t))
    rs.c = c
    slab_init(&rs.slab, sizeof(relay_t), KIND_RELAY)


cdef void relays_fini(relays_t* rs) noexcept nogil:
    cdef uint32_t i

    for i in range(slab_count(&rs.slab)):
        if relay_at(rs, i).state != RELAY_FREE:
            relay_drop(rs, relay_at(rs, i), DROP_ENGINE_CLOSED)
    slab_fini(&rs.slab)


cdef relay_t* relay_new(relays_t* rs, int fd) noexcept nogil:
    cdef relay_t* r = <relay_t*>slab_take(&rs.slab)

    if r == NULL:
        return NULL
    r.end[SIDE_DOWN].fd = fd
    r.end[SIDE_UP].fd = -1
    r.active_ms = rs.c.now_ms
    return r


cdef void relay_free(relays_t* rs, relay_t* r) noexcept nogil:
    slab_give(&rs.slab, r)


cdef void relay_drop(relays_t* rs, relay_t* r, DROP reason) noexcept nogil:
    cdef bint reset = reason != DROP_CLOSED

    if reason == DROP_IDLE_TIMEOUT:
        # A FIN if all was delivered; behind lost bytes it would say that they arrived.
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
        TAG_RELAY_DOWN if side == SIDE_DOWN else TAG_RELAY_UP,
        r.slot.index,
        r.slot.generation,
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


cdef bint relay_moved(
    relays_t* rs, relay_t* r, side_t source, MOVE move, uint64_t moved
) noexcept nogil:
    cdef side_t target = side_other(source)

    relay_count(rs, r, source, moved)
    if move == MOVE_MORE:
        run_push(&rs.c.run, &r.slot)
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
        # Asked for when first needed: most relays never find a socket full.
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
    """`side` was reset or timed out: pass on what it sent before, then reset."""
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
        target.writable = END_NO_FIN
    h.last = 0  # close(2) will not send that FIN, but a reset
    r.end[side].readable = 1
    r.end[side].rdhup_seen = 1
    while move == MOVE_MORE:  # the peer has gone: nothing more will come
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
        # Only now: most relays end before keepalive could matter.
        up.flags |= END_KEPT_ALIVE
        socket_keepalive(up.fd, v.listen.keepalive_s, v.listen.user_timeout_ms)
    if r.active_ms + idle_ms <= rs.c.now_ms:
        relay_drop(rs, r, DROP_IDLE_TIMEOUT)
    else:
        timer_arm(&rs.c.wheel, &r.timer, r.active_ms + idle_ms)


cdef void relay_run(relays_t* rs, relay_t* r) noexcept nogil:
    if r.state == RELAY_FREE:
        slab_reclaim(&rs.slab, &r.slot)
    elif relay_move(rs, r, SIDE_DOWN):
        relay_move(rs, r, SIDE_UP)


cdef uint32_t relays_reset(
    relays_t* rs, uint32_t slot, bint silent, uint32_t first, uint32_t count
) noexcept nogil:
    cdef uint32_t end = slab_count(&rs.slab)
    cdef uint32_t i
    cdef relay_t* r

    for i in range(first, first + count):
        if i >= end:
            return 0
        r = relay_at(rs, i)
        if r.state == RELAY_FREE:
            continue
        if silent and (r.half[SIDE_DOWN].bytes == 0 or r.half[SIDE_UP].bytes > 0):
            continue
        if slot == SLOT_ALL or (r.backend != NULL and r.backend.slot == slot):
            relay_drop(rs, r, DROP_RESET_BY_ADMIN)
    return first + count if first + count < end else 0
