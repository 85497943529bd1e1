"""What happens to exchanges, as the worker hears of it."""

from libc.stdint cimport uint32_t

from fastpath.base.addr cimport addr_t
from fastpath.base.linux.file cimport EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from fastpath.base.mailbox cimport letter_t
from fastpath.base.slab cimport slab_count, slab_find, slab_reclaim
from fastpath.base.stats cimport (
    DROP_CLOSED,
    DROP_HEADER_TIMEOUT,
    DROP_IDLE_TIMEOUT,
    DROP_RESET_BY_ADMIN,
    DROP_RESET_BY_CLIENT,
    web_stats,
)
from fastpath.base.timer cimport timer_arm
from fastpath.http.conn cimport STEP_ON, exchange_drop, exchange_open, exchange_say
from fastpath.http.decide cimport decide_answered, exchange_reached, exchange_replay
from fastpath.http.exchange cimport exchange_run
from fastpath.http.idle cimport idle_event, idle_timer, upconn_at, upconn_close
from fastpath.http.state cimport (
    CONN_FLOWING,
    CONN_HANDSHAKE,
    CONN_HEAD,
    CONN_LINGER,
    CONN_PARKED,
    CONN_REACHING,
    UPCONN_BUSY,
    UPCONN_IDLE,
    conns_t,
    exchange_t,
    upconn_t,
)
from fastpath.http.upconn cimport REACH, REACH_WAIT, upconn_go_on, upconn_late


cdef void http_open(
    conns_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil:
    cdef exchange_t* x = exchange_open(w, fd, vip, client)

    if x != NULL:
        exchange_run(w, x)


cdef void conn_run(conns_t* w, exchange_t* x) noexcept nogil:
    if x.slot.live:
        exchange_run(w, x)
    else:
        slab_reclaim(&w.exchanges, &x.slot)


cdef void http_conn_event(
    conns_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil:
    cdef exchange_t* x = <exchange_t*>slab_find(&w.exchanges, index, generation)

    if x == NULL:
        return  # of one that this very batch has ended
    if events & EPOLLERR:
        exchange_drop(w, x, DROP_RESET_BY_CLIENT)
        return
    if x.state == CONN_FLOWING:
        x.deadline_ms = 0  # it moves, see exchange_stall
    if events & EPOLLOUT:
        x.down.end.writable = 1
    if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP):
        x.down.end.readable = 1
    if events & (EPOLLRDHUP | EPOLLHUP):
        x.down.end.rdhup_seen = 1
    exchange_run(w, x)


cdef void http_upconn_event(
    conns_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil:
    cdef upconn_t* s = <upconn_t*>slab_find(&w.upconns, index, generation)
    cdef exchange_t* x

    if s == NULL:
        return
    x = s.exchange  # what is called below may let go of the server
    s.link.end.readable = 1
    if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        s.link.end.rdhup_seen = 1
    if events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
        if s.state == UPCONN_BUSY and not s.link.end.writable and (
            x.state == CONN_FLOWING
        ):
            x.deadline_ms = 0  # it takes what it did not, see exchange_stall
        s.link.end.writable = 1
    if s.state == UPCONN_IDLE:
        idle_event(w, s)
    elif s.state == UPCONN_BUSY:
        exchange_run(w, x)
    else:
        upconn_arrived(w, x, upconn_go_on(w, s))


cdef void upconn_arrived(conns_t* w, exchange_t* x, REACH reach) noexcept nogil:
    w.head_of = NULL
    if reach != REACH_WAIT and exchange_reached(w, x, reach) == STEP_ON:
        exchange_run(w, x)


cdef void conn_timer(conns_t* w, exchange_t* x) noexcept nogil:
    if x.deadline_ms == 0:
        return  # nothing to wait for now; armed again when there is
    if x.deadline_ms > w.c.now_ms:
        timer_arm(&w.c.wheel, &x.timer, x.deadline_ms)
    elif x.state == CONN_PARKED:
        web_stats(&w.c.stats, x.vip.slot).unanswered += 1
        x.deadline_ms = 0
        if exchange_say(w, x, 503, b"no decision in time") == STEP_ON:
            exchange_run(w, x)
    elif x.state == CONN_HEAD or x.state == CONN_HANDSHAKE:
        exchange_drop(w, x, DROP_HEADER_TIMEOUT)
    else:
        exchange_drop(
            w, x, DROP_CLOSED if x.state == CONN_LINGER else DROP_IDLE_TIMEOUT
        )


cdef void upconn_timer(conns_t* w, upconn_t* s) noexcept nogil:
    cdef exchange_t* x = s.exchange

    if x == NULL or s.state == UPCONN_BUSY:
        idle_timer(w, s)
    else:
        upconn_arrived(w, x, upconn_late(w, s))


cdef void http_answer(conns_t* w, const letter_t* letter) noexcept nogil:
    cdef exchange_t* x = decide_answered(w, letter)

    if x != NULL:
        exchange_run(w, x)


# A busy exchange goes to another backend if it can still be sent again.
cdef void http_reset_backend(conns_t* w, uint32_t slot) noexcept nogil:
    cdef upconn_t* s
    cdef exchange_t* x
    cdef uint32_t i

    for i in range(slab_count(&w.upconns)):
        s = upconn_at(w, i)
        if not s.slot.live or s.backend.slot != slot:
            continue
        x = s.exchange
        if x == NULL:
            upconn_close(w, s, True)
        elif x.state == CONN_REACHING:
            upconn_arrived(w, x, upconn_late(w, s))
        elif x.state == CONN_FLOWING and not x.answering:
            if exchange_replay(w, x) == STEP_ON:
                exchange_run(w, x)
        else:
            exchange_drop(w, x, DROP_RESET_BY_ADMIN)
