"""What the worker tells HTTP: events, timers, letters. Each is noted in the structs,
where the next step of the exchange finds it; then the exchange runs."""

from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf

from fastpath.base.end cimport END_READABLE, END_WRITABLE
from fastpath.base.linux.file cimport (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
)
from fastpath.base.slab cimport slab_count, slab_find, slab_reclaim
from fastpath.base.stats cimport (
    DROP_CLOSED,
    DROP_HEADER_TIMEOUT,
    DROP_IDLE_TIMEOUT,
    DROP_RESET_BY_ADMIN,
    DROP_RESET_BY_CLIENT,
)
from fastpath.base.timer cimport timer_arm
from fastpath.http.conn cimport conn_drop, conn_new
from fastpath.http.exchange cimport exchange_run
from fastpath.http.idle cimport idle_event, idle_timer, upconn_at, upconn_close
from fastpath.http.question cimport question_answered, question_expired
from fastpath.http.state cimport (
    CONN_FLOWING,
    CONN_HANDSHAKE,
    CONN_HEAD,
    CONN_LINGER,
    CONN_PARKED,
    CONN_REACHING,
    STEP,
    STEP_LOST,
    STEP_ON,
    STEP_WAIT,
    UPCONN_BUSY,
    UPCONN_IDLE,
)


cdef void conn_open(
    conns_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil:
    cdef conn_t* conn = conn_new(w, fd, vip, client)

    if conn != NULL:
        # At once: with TCP_DEFER_ACCEPT the first bytes have come already.
        exchange_run(w, conn, STEP_ON)


cdef void conn_run(conns_t* w, conn_t* conn) noexcept nogil:
    # The queue links through slots: that of a dropped connection is free only now.
    if conn.slot.live:
        exchange_run(w, conn, STEP_ON)
    else:
        slab_reclaim(&w.conns, &conn.slot)


# ---- Events.

cdef void conn_event(
    conns_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil:
    cdef conn_t* conn = <conn_t*>slab_find(&w.conns, index, generation)

    if conn == NULL:
        return  # of a connection that an event of this very batch has ended
    if events & EPOLLERR:
        conn_drop(w, conn, DROP_RESET_BY_CLIENT)
        return
    if conn.state == CONN_FLOWING:
        conn.deadline_ms = 0  # it moves: conn_stall sets the next one
    if events & EPOLLOUT:
        conn.down.end.writable = END_WRITABLE
    if events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP):
        conn.down.end.readable = END_READABLE
    # Behind any of these a short read does not mean that the socket is dry, and the
    # poller may not tell again: read until EAGAIN from now on.
    if events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP):
        conn.down.end.rdhup_seen = 1
    exchange_run(w, conn, STEP_ON)


cdef void upconn_event(
    conns_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil:
    cdef upconn_t* u = <upconn_t*>slab_find(&w.upconns, index, generation)
    cdef conn_t* conn

    if u == NULL:
        return
    # Whatever the event: a read that finds nothing costs less than one that is missed.
    u.link.end.readable = END_READABLE
    if events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        u.link.end.rdhup_seen = 1
    if u.state == UPCONN_IDLE:
        # For its next use: the event will not come again.
        if events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
            u.link.end.writable = END_WRITABLE
        idle_event(w, u)
        return
    conn = u.exchange.conn
    # A failed connect(2) counts as writable, too: then SO_ERROR is asked for why.
    if events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
        if not u.link.end.writable and conn.state == CONN_FLOWING:
            conn.deadline_ms = 0  # it takes bytes again: conn_stall sets the next one
        u.link.end.writable = END_WRITABLE
    exchange_run(w, conn, STEP_ON)


# ---- Timers.

cdef void conn_timer(conns_t* w, conn_t* conn) noexcept nogil:
    if conn.deadline_ms == 0:
        return  # nothing to wait for now; armed again when there is
    # The timer was armed for an earlier deadline, see conn_until.
    if conn.deadline_ms > w.c.now_ms:
        timer_arm(&w.c.wheel, &conn.timer, conn.deadline_ms)
    # Python was too late: a reply says so. In other states there is no request.
    elif conn.state == CONN_PARKED:
        exchange_run(w, conn, question_expired(w, conn.exchange))
    elif conn.state == CONN_HEAD or conn.state == CONN_HANDSHAKE:
        conn_drop(w, conn, DROP_HEADER_TIMEOUT)
    else:
        conn_drop(
            w, conn, DROP_CLOSED if conn.state == CONN_LINGER else DROP_IDLE_TIMEOUT
        )


cdef void upconn_timer(conns_t* w, upconn_t* u) noexcept nogil:
    # Of a BUSY one it is that of a pause, or left from when it was idle. Else its
    # connect_ms are over.
    if u.state == UPCONN_BUSY and u.exchange != NULL and u.exchange.paused:
        exchange_run(w, u.exchange.conn, STEP_ON)
    elif u.exchange == NULL or u.state == UPCONN_BUSY:
        idle_timer(w, u)
    else:
        u.connect_timed_out = 1
        exchange_run(w, u.exchange.conn, STEP_ON)


# ---- Letters.

cdef void conn_answer(conns_t* w, const letter_t* letter) noexcept nogil:
    cdef STEP step = STEP_WAIT
    cdef conn_t* conn = question_answered(w, letter, &step)

    if conn != NULL:
        exchange_run(w, conn, step)


# An exchange whose backend is dead goes to another one, as long as the client has seen
# no response and the request may be sent again.
cdef void conns_reset_backend(conns_t* w, uint32_t slot) noexcept nogil:
    cdef upconn_t* u
    cdef conn_t* conn
    cdef uint32_t i

    for i in range(slab_count(&w.upconns)):
        u = upconn_at(w, i)
        if not u.slot.live or u.backend == NULL or u.backend.slot != slot:
            continue
        if u.exchange == NULL:
            upconn_close(w, u, True)
            continue
        conn = u.exchange.conn
        if conn.state == CONN_REACHING:
            u.connect_timed_out = 1  # as if its time were over: dial the next one
            exchange_run(w, conn, STEP_ON)
        elif conn.state == CONN_FLOWING and not u.exchange.answering:
            snprintf(w.why, sizeof(w.why), b"the backend was reset")
            exchange_run(w, conn, STEP_LOST)
        else:
            conn_drop(w, conn, DROP_RESET_BY_ADMIN)
