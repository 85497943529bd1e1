"""Getting a relay its backend: pick, connect, and on failure pick again.

The first bytes are sent at once: on the same host connect(2) has ended the handshake
when it returns EINPROGRESS, so the request can follow without a turn of the loop. A
failed dial costs the client nothing: no byte has moved, and what was read from the
client waits in the spill for the next backend.
"""

from libc.stdint cimport uint32_t, uint8_t

from fastpath.base.addr cimport addr_from_sockaddr, addr_t
from fastpath.base.end cimport (
    END_FULL,
    END_KEPT_ALIVE,
    END_NODELAY,
    END_NO_FIN,
    END_POLLED,
    END_WRITABLE,
    end_close,
    end_t,
)
from fastpath.base.half cimport MOVE, MOVE_TARGET_FAILED, half_move, half_t
from fastpath.base.linux.atomic cimport sub_u32
from fastpath.base.linux.file cimport (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
)
from fastpath.base.linux.socket cimport (
    MSG_DONTWAIT,
    MSG_PEEK,
    getpeername,
    recv,
    sockaddr,
    sockaddr_storage,
    socklen_t,
)
from fastpath.base.stats cimport (
    DROP,
    DROP_CONNECT_FAILED,
    DROP_CONNECT_TIMEOUT,
    DROP_NO_BACKEND,
    DROP_NO_DESCRIPTORS,
    DROP_RESET_BY_CLIENT,
    vip_stats,
)
from fastpath.base.timer cimport timer_arm
from fastpath.table.dialler cimport (
    DIAL,
    DIAL_NO_BACKEND,
    DIAL_NO_DESCRIPTORS,
    DIAL_WAIT,
    attempt_t,
    dialler_exhausted,
    dialler_failed,
    dialler_next,
    dialler_succeeded,
)
from fastpath.table.registry cimport backend_state_t
from fastpath.table.table cimport pool_t, table_vip, vip_pool, vip_t
from fastpath.tcp.relay cimport (
    RELAY_DIALLING,
    RELAY_FLOWING,
    RELAY_FREE,
    SIDE_DOWN,
    SIDE_UP,
    relay_drop,
    relay_event,
    relay_move,
    relay_moved,
    relay_poll,
)


cdef void dial_start(relays_t* rs, relay_t* r) noexcept nogil:
    cdef end_t* down = &r.end[SIDE_DOWN]

    r.state = RELAY_DIALLING
    down.readable = 1
    down.writable = 1
    down.flags |= END_NODELAY | END_KEPT_ALIVE  # inherited
    vip_stats(&rs.c.stats, r.vip.slot).accepted += 1
    r.reason = DROP_NO_BACKEND
    if dial_on(rs, r) and not down.flags & END_POLLED:
        relay_poll(rs, r, SIDE_DOWN, EPOLLIN)


# The client's address, for a vip that keeps it; NULL = it left already.
cdef const addr_t* dial_source(addr_t* client, int fd) noexcept nogil:
    cdef sockaddr_storage name
    cdef socklen_t size = sizeof(name)

    # Asked for here, and not kept in every relay: few vips want it.
    if getpeername(fd, <sockaddr*>&name, &size) == -1:
        return NULL
    addr_from_sockaddr(client, &name)
    return client


# Try backends until one may answer. Return False if the relay is no more.
cdef bint dial_on(relays_t* rs, relay_t* r) noexcept nogil:
    cdef vip_t* v = table_vip(rs.c, r.vip.slot)
    cdef uint8_t tries = r.dial.tries
    cdef const pool_t* pool = vip_pool(rs.c, v, r.near) if v != NULL else NULL
    cdef DIAL dial = DIAL_NO_BACKEND
    cdef addr_t client
    cdef attempt_t a

    a.source = NULL
    if v != NULL and (v.keep_near if r.near else v.keep_far):
        a.source = dial_source(&client, r.end[SIDE_DOWN].fd)
    a.hash = r.hash
    a.pin = r.source
    a.retries = &vip_stats(&rs.c.stats, r.vip.slot).retries
    a.lazy_ack = v != NULL and v.listen.client_first
    a.kept_alive = False
    a.why = NULL
    while True:
        if v != NULL:
            dial = dialler_next(rs.c, &r.dial, pool, &a)
        if r.dial.tries > tries:
            r.reason = DROP_CONNECT_FAILED
        if dial == DIAL_NO_BACKEND:
            relay_drop(rs, r, <DROP>r.reason)
            return False
        if dial == DIAL_NO_DESCRIPTORS:
            relay_drop(rs, r, DROP_NO_DESCRIPTORS)
            return False
        r.backend = a.backend.state
        r.end[SIDE_UP].fd = a.fd
        if dial == DIAL_WAIT:
            timer_arm(&rs.c.wheel, &r.timer, rs.c.now_ms + pool.connect_ms)
            return relay_poll(rs, r, SIDE_UP, EPOLLIN | EPOLLOUT)
        if dial_at_once(rs, r, pool.connect_ms):
            return r.state != RELAY_FREE
        if dialler_exhausted(rs.c.mover.error):
            relay_drop(rs, r, DROP_NO_DESCRIPTORS)
            return False
        dial_failed(rs, r, v, DROP_CONNECT_FAILED)


# Leave the backend that did not answer; the relay stays DIALLING.
cdef void dial_failed(
    relays_t* rs, relay_t* r, const vip_t* v, DROP reason
) noexcept nogil:
    cdef backend_state_t* backend = r.backend

    end_close(&r.end[SIDE_UP], False)
    r.end[SIDE_UP].flags = 0
    r.end[SIDE_UP].writable = 0
    r.backend = NULL
    r.reason = reason
    dialler_failed(
        rs.c, &r.dial, vip_pool(rs.c, v, r.near) if v != NULL else NULL, backend
    )
    # Last: Python may give the slot of a backend without relays to another.
    sub_u32(&backend.active, 1)


# Send what the client has sent already, before the handshake ends. Return False if
# the backend turns out not to be connected: mover.error.
cdef bint dial_at_once(relays_t* rs, relay_t* r, uint32_t timeout_ms) noexcept nogil:
    cdef half_t* h = &r.half[SIDE_DOWN]
    cdef end_t* up = &r.end[SIDE_UP]
    cdef MOVE move

    up.writable = END_NO_FIN
    move = half_move(&rs.c.mover, h, &r.end[SIDE_DOWN], up)
    if move == MOVE_TARGET_FAILED and h.bytes == 0:
        return False
    timer_arm(&rs.c.wheel, &r.timer, rs.c.now_ms + timeout_ms)
    if h.bytes == 0:
        up.writable = END_FULL  # until the poller says that it is connected
        relay_moved(rs, r, SIDE_DOWN, move, 0)
    elif dial_connected(rs, r) and relay_moved(rs, r, SIDE_DOWN, move, h.bytes):
        if h.ended and not h.done:
            relay_move(rs, r, SIDE_DOWN)
    return True


# The backend has answered. Return False if the relay is no more.
cdef bint dial_connected(relays_t* rs, relay_t* r) noexcept nogil:
    cdef const vip_t* v = table_vip(rs.c, r.vip.slot)

    r.state = RELAY_FLOWING
    r.active_ms = rs.c.now_ms
    dialler_succeeded(rs.c, &r.dial, r.backend)
    if r.end[SIDE_UP].writable == END_NO_FIN:
        r.end[SIDE_UP].writable = END_WRITABLE
    # The timer is armed for the connect deadline, and then again for the idle one.
    if v != NULL and v.idle_ms < vip_pool(rs.c, v, r.near).connect_ms:
        timer_arm(&rs.c.wheel, &r.timer, rs.c.now_ms + v.idle_ms)
    if r.end[SIDE_UP].flags & END_POLLED:
        return True
    return relay_poll(rs, r, SIDE_UP, EPOLLIN)


# This backend did not answer; go on with the next.
cdef void dial_next(
    relays_t* rs, relay_t* r, DROP reason
) noexcept nogil:
    dial_failed(rs, r, table_vip(rs.c, r.vip.slot), reason)
    dial_on(rs, r)


# Whether a backend spoke before it was reset: then it had been connected.
cdef bint dial_spoke(const end_t* up) noexcept nogil:
    cdef char byte
    return recv(up.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0


cdef void dial_event(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil:
    if side == SIDE_DOWN:
        if events & EPOLLERR:
            relay_drop(rs, r, DROP_RESET_BY_CLIENT)
            return
        r.end[SIDE_DOWN].readable = 1
        if events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP):
            r.end[SIDE_DOWN].rdhup_seen = 1
    elif events & (EPOLLERR | EPOLLHUP):
        if events & EPOLLIN and dial_spoke(&r.end[SIDE_UP]):
            r.end[SIDE_UP].writable = END_WRITABLE
            if dial_connected(rs, r):
                relay_event(rs, r, SIDE_UP, events)
        else:
            dial_next(rs, r, DROP_CONNECT_FAILED)
    elif events & EPOLLOUT:
        r.end[SIDE_UP].writable = END_WRITABLE
        r.end[SIDE_UP].readable = 1  # a server may speak first
        if events & (EPOLLPRI | EPOLLRDHUP):
            r.end[SIDE_UP].rdhup_seen = 1
        if dial_connected(rs, r) and relay_move(rs, r, SIDE_DOWN):
            relay_move(rs, r, SIDE_UP)


cdef void dial_timer(relays_t* rs, relay_t* r) noexcept nogil:
    dial_next(rs, r, DROP_CONNECT_TIMEOUT)
