"""What happens to exchanges, as the worker hears of it."""

from libc.stdint cimport uint32_t

from fastpath.base.addr cimport addr_t
from fastpath.base.linux.file cimport EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from fastpath.base.mailbox cimport letter_t
from fastpath.base.slab cimport (
    SLAB_NONE,
    slab_at,
    slab_count,
    slab_find,
    slab_give,
    slot_t,
)
from fastpath.base.stats cimport (
    DROP_CLOSED,
    DROP_HEADER_TIMEOUT,
    DROP_IDLE_TIMEOUT,
    DROP_RESET_BY_ADMIN,
    DROP_RESET_BY_CLIENT,
    web_stats,
)
from fastpath.base.timer cimport TIMER_EXCHANGE, timer_arm, timer_t
from fastpath.http.client cimport STEP_ON, exchange_drop, exchange_open, exchange_say
from fastpath.http.decide cimport decide_answered, exchange_reached, exchange_replay
from fastpath.http.exchange cimport exchange_run
from fastpath.http.keepset cimport (
    server_at,
    server_close,
    upstream_idle_event,
    upstream_idle_timer,
)
from fastpath.http.upstream cimport REACH, REACH_WAIT, upstream_go_on, upstream_late
from fastpath.http.web cimport (
    EX_FLOWING,
    EX_HANDSHAKE,
    EX_HEAD,
    EX_LINGER,
    EX_PARKED,
    EX_REACHING,
    SV_BUSY,
    SV_IDLE,
    exchange_t,
    server_t,
    web_t,
)


cdef void web_open(
    web_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil:
    cdef exchange_t* x = exchange_open(w, fd, vip, client)

    if x != NULL:
        exchange_run(w, x)


cdef void web_run(web_t* w) noexcept nogil:
    cdef uint32_t last = w.run_last
    cdef uint32_t index = SLAB_NONE
    cdef exchange_t* x

    # Those queued meanwhile wait for the next turn of the loop.
    while w.run_first != SLAB_NONE and index != last:
        index = w.run_first
        x = <exchange_t*>slab_at(&w.exchanges, index)
        w.run_first = x.next
        if w.run_first == SLAB_NONE:
            w.run_last = SLAB_NONE
        x.queued = 0
        if x.down.fd == -1:
            slab_give(&w.exchanges, x)
        else:
            exchange_run(w, x)


cdef void web_client_event(
    web_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil:
    cdef exchange_t* x = <exchange_t*>slab_find(&w.exchanges, index, generation)

    if x == NULL or x.down.fd == -1:
        return  # of one that this very batch has ended
    if events & EPOLLERR:
        exchange_drop(w, x, DROP_RESET_BY_CLIENT)
        return
    if x.state == EX_FLOWING:
        x.deadline_ms = 0  # it moves, see exchange_stall
    if events & EPOLLOUT:
        x.down.writable = 1
    if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP):
        x.down.readable = 1
    if events & (EPOLLRDHUP | EPOLLHUP):
        x.down.wary = 1
    exchange_run(w, x)


cdef void web_server_event(
    web_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil:
    cdef server_t* s = <server_t*>slab_find(&w.servers, index, generation)
    cdef exchange_t* x

    if s == NULL:
        return
    x = s.exchange  # what is called below may let go of the server
    s.link.readable = 1
    if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
        s.link.wary = 1
    if events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
        if s.state == SV_BUSY and not s.link.writable and x.state == EX_FLOWING:
            x.deadline_ms = 0  # it takes what it did not, see exchange_stall
        s.link.writable = 1
    if s.state == SV_IDLE:
        upstream_idle_event(w, s)
    elif s.state == SV_BUSY:
        exchange_run(w, x)
    else:
        server_arrived(w, x, upstream_go_on(w, s))


cdef void server_arrived(web_t* w, exchange_t* x, REACH reach) noexcept nogil:
    w.head_of = NULL
    if reach != REACH_WAIT and exchange_reached(w, x, reach) == STEP_ON:
        exchange_run(w, x)


cdef void client_timer(web_t* w, exchange_t* x) noexcept nogil:
    if x.deadline_ms == 0:
        return  # nothing to wait for now; armed again when there is
    if x.deadline_ms > w.c.now_ms:
        timer_arm(&w.c.wheel, &x.timer, x.deadline_ms)
    elif x.state == EX_PARKED:
        web_stats(&w.c.stats, x.vip.slot).unanswered += 1
        x.deadline_ms = 0
        if exchange_say(w, x, 503, b"no decision in time") == STEP_ON:
            exchange_run(w, x)
    elif x.state == EX_HEAD or x.state == EX_HANDSHAKE:
        exchange_drop(w, x, DROP_HEADER_TIMEOUT)
    else:
        exchange_drop(
            w, x, DROP_CLOSED if x.state == EX_LINGER else DROP_IDLE_TIMEOUT
        )


cdef void web_timer(web_t* w, timer_t* t) noexcept nogil:
    cdef char* slot = <char*>t - sizeof(slot_t)
    cdef server_t* s
    cdef exchange_t* x

    if t.kind == TIMER_EXCHANGE:
        client_timer(w, <exchange_t*>slot)
        return
    s = <server_t*>slot
    x = s.exchange
    if x == NULL or s.state == SV_BUSY:
        upstream_idle_timer(w, s)
    else:
        server_arrived(w, x, upstream_late(w, s))


cdef void web_answer(web_t* w, const letter_t* letter) noexcept nogil:
    cdef exchange_t* x = decide_answered(w, letter)

    if x != NULL:
        exchange_run(w, x)


# A busy exchange goes to another backend if it can still be sent again.
cdef void web_reset_backend(web_t* w, uint32_t slot) noexcept nogil:
    cdef server_t* s
    cdef exchange_t* x
    cdef uint32_t i

    for i in range(slab_count(&w.servers)):
        s = server_at(w, i)
        if not s.slot.live or s.backend == NULL or s.backend.slot != slot:
            continue
        x = s.exchange
        if x == NULL:
            server_close(w, s, True)
        elif x.state == EX_REACHING:
            server_arrived(w, x, upstream_late(w, s))
        elif x.state == EX_FLOWING and not x.answering:
            if exchange_replay(w, x) == STEP_ON:
                exchange_run(w, x)
        else:
            exchange_drop(w, x, DROP_RESET_BY_ADMIN)
