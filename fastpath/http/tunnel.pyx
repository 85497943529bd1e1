"""Upgraded exchanges: bytes both ways; each direction ends by itself.

Between two plain sockets a direction is a half, as of a relay: it copies small messages
and splices streams. Where one side speaks TLS, bytes pass through OpenSSL and are
copied.
"""

from libc.errno cimport EAGAIN, ENOMEM
from libc.stdint cimport uint32_t, uint64_t

from fastpath.base.end cimport END_POLLED_OUT
from fastpath.base.half cimport (
    MOVE,
    MOVE_DONE,
    MOVE_MORE,
    MOVE_NO_MEMORY,
    MOVE_SOURCE_FAILED,
    MOVE_TARGET_FAILED,
    MOVE_WAIT,
    half_move,
    half_t,
)
from fastpath.base.linux.file cimport EPOLLET, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP
from fastpath.base.poller cimport TAG_CONN, TAG_UPCONN, poller_change, tag_make
from fastpath.base.spill cimport mover_t
from fastpath.http.body cimport pending_flush, pending_send, read_some
from fastpath.http.conn cimport conn_until, input_drop
from fastpath.http.record cimport exchange_count
from fastpath.http.request cimport request_forget
from fastpath.http.state cimport (
    STEP_CLIENT_FAILED,
    STEP_CLOSED,
    STEP_DONE,
    STEP_NO_MEMORY,
    STEP_ON,
    STEP_TURN,
    STEP_UPSTREAM_FAILED,
    STEP_WAIT,
    body_t,
    conn_t,
    exchange_bytes,
    input_bytes,
    pending_t,
    upconn_t,
    vip_of,
)
from fastpath.table.table cimport vip_t
from fastpath.tls.transport cimport SHUT_LATER, transport_shut, transport_t


cdef inline bint tunnel_is_plain(const exchange_t* x) noexcept nogil:
    return x.conn.down.ssl == NULL and x.up.link.ssl == NULL


cdef void tunnel_until(conns_t* w, exchange_t* x) noexcept nogil:
    cdef vip_t* v = vip_of(w, x.conn)
    # The idle time of TCP, not of HTTP. A tunnel outlives its vip: then an hour.
    conn_until(w, x.conn, v.idle_ms if v != NULL else 3600000)


# Watch for urgent data, too (EPOLLPRI): splice(2) stops at the urgent mark and returns
# EAGAIN for ever, so a half must know of one. EPOLL_CTL_MOD also reports what is ready.
cdef bint tunnel_watch(conns_t* w, exchange_t* x) noexcept nogil:
    cdef uint32_t events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET
    cdef conn_t* conn = x.conn
    cdef upconn_t* u = x.up

    conn.down.end.flags |= END_POLLED_OUT
    return poller_change(
        &w.c.poller, conn.down.end.fd, events,
        tag_make(TAG_CONN, conn.slot.index, conn.slot.generation),
    ) == 0 and poller_change(
        &w.c.poller, u.link.end.fd, events,
        tag_make(TAG_UPCONN, u.slot.index, u.slot.generation),
    ) == 0


cdef STEP tunnel_begin(conns_t* w, exchange_t* x) noexcept nogil:
    cdef conn_t* conn = x.conn
    cdef uint32_t rest = 0
    cdef int failed = 0

    # In order: count the exchange, as a tunnel may live for days; forget the request;
    # send what the client wrote behind it, which is the tunnel's; watch for urgent
    # data; set the idle time. The bodies' counters go on for the two directions.
    exchange_count(w, x, True)
    x.request.done = 0
    x.response.done = 0
    request_forget(w, x)
    if conn.input != NULL:
        rest = conn.input.used
    if rest > 0:
        failed = pending_send(
            &w.c.mover, &x.to_up, &x.up.link, input_bytes(conn), rest
        )
    input_drop(w, conn)
    # With TLS nothing is spliced, and urgent data is no part of the TLS stream.
    if failed < 0 or (tunnel_is_plain(x) and not tunnel_watch(w, x)):
        return STEP_UPSTREAM_FAILED
    tunnel_until(w, x)
    return STEP_ON


# ---- Between plain sockets.

# Move one way, once `p` is sent: what waited when the exchange became a tunnel.
cdef STEP tunnel_half(
    conns_t* w, half_t* h, pending_t* p, transport_t* source, transport_t* target,
    bint up,
) noexcept nogil:
    cdef int flushed = pending_flush(&w.c.mover, p, target)
    cdef MOVE move

    if flushed == 0:
        return STEP_WAIT  # in order: the half must not overtake what waits
    move = MOVE_TARGET_FAILED
    if flushed > 0:
        move = half_move(&w.c.mover, h, &source.end, &target.end)
    if move == MOVE_WAIT:
        return STEP_WAIT
    if move == MOVE_MORE:
        return STEP_TURN
    if move == MOVE_DONE:
        return STEP_DONE
    if move == MOVE_NO_MEMORY:
        return STEP_NO_MEMORY
    # On the way up the source is the client, on the way down the target is.
    if up == (move == MOVE_SOURCE_FAILED):
        return STEP_CLIENT_FAILED
    return STEP_UPSTREAM_FAILED


# ---- Where there is TLS.

# Move one way, until the source ends its side: then end ours towards the target. `b`
# counts, and is done when that was passed on.
cdef STEP tunnel_copy(
    conns_t* w, body_t* b, pending_t* p, transport_t* source, transport_t* target,
    bint up,
) noexcept nogil:
    cdef mover_t* m = &w.c.mover
    cdef STEP source_failed = STEP_CLIENT_FAILED if up else STEP_UPSTREAM_FAILED
    cdef STEP target_failed = STEP_UPSTREAM_FAILED if up else STEP_CLIENT_FAILED
    cdef size_t moved = 0
    cdef ssize_t got
    cdef int sent

    # As body_move, but without framing: every byte is passed on. `sent` is the result
    # of the last write, below 0 if the target has failed.
    while not b.done:
        sent = pending_flush(m, p, target)
        if sent == 0:
            return STEP_WAIT
        if sent > 0:
            if moved >= m.turn:
                return STEP_TURN
            if not source.end.readable:
                return STEP_WAIT
            got = read_some(m, source)
            if got == -EAGAIN:
                return STEP_WAIT
            if got < 0:
                return source_failed
            if got == 0:
                # Half-closed: `kubectl exec` ends its stdin and still reads the output.
                transport_shut(target)
                b.done = 1
                break
            b.bytes += got
            moved += got
            sent = pending_send(m, p, target, m.scratch, got)
        if sent < 0:
            return STEP_NO_MEMORY if sent == -ENOMEM else target_failed
    return STEP_DONE


# ---- Both ways.

cdef STEP tunnel_one_way(conns_t* w, exchange_t* x, bint up) noexcept nogil:
    cdef conn_t* conn = x.conn
    cdef transport_t* link = &x.up.link

    if tunnel_is_plain(x):
        if up:
            return tunnel_half(w, &x.half[0], &x.to_up, &conn.down, link, True)
        return tunnel_half(w, &x.half[1], &conn.to_down, link, &conn.down, False)
    if up:
        return tunnel_copy(w, &x.request, &x.to_up, &conn.down, link, True)
    return tunnel_copy(w, &x.response, &conn.to_down, link, &conn.down, False)


# Try again to end our side, where the close_notify found the socket full.
cdef inline void tunnel_shut_late(transport_t* t) noexcept nogil:
    if t.shut == SHUT_LATER and t.end.writable:
        transport_shut(t)


cdef STEP tunnel_move(conns_t* w, exchange_t* x) noexcept nogil:
    cdef uint64_t before = exchange_bytes(x)
    cdef STEP up, down

    # Both ways, whatever the first one says, unless it failed: a full socket one way
    # must not stop the other. It is over when both ends were passed on.
    up = tunnel_one_way(w, x, True)
    if up > STEP_TURN and up != STEP_DONE:
        return up
    down = tunnel_one_way(w, x, False)
    if down > STEP_TURN and down != STEP_DONE:
        return down
    if up == STEP_DONE and down == STEP_DONE:
        return STEP_CLOSED
    tunnel_shut_late(&x.conn.down)
    tunnel_shut_late(&x.up.link)
    if exchange_bytes(x) != before:  # an event that moved nothing is not activity
        tunnel_until(w, x)
    return STEP_TURN if up == STEP_TURN or down == STEP_TURN else STEP_WAIT
