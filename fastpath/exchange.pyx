"""The life of an exchange: both directions moved by one function, `exchange_run`, which
every event of either side calls. It stops when both directions wait.
"""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint32_t

from fastpath.addr cimport addr_t
from fastpath.carry cimport (
    CARRY,
    CARRY_FAULT,
    CARRY_MORE,
    CARRY_NO_MEMORY,
    CARRY_SOURCE,
    CARRY_TARGET,
    body_carry,
    pending_drop,
)
from fastpath.client cimport (
    STEP,
    STEP_GONE,
    STEP_ON,
    STEP_TURN,
    STEP_WAIT,
    exchange_clear,
    exchange_count,
    exchange_drop,
    exchange_end,
    exchange_fail,
    exchange_idle,
    exchange_open,
    exchange_say,
    input_take,
)
from fastpath.decide cimport (
    decide_answered,
    exchange_ask_on,
    exchange_reached,
    exchange_replay,
)
from fastpath.half cimport SCRATCH_BYTES, mover_t, spill_t
from fastpath.keepset cimport (
    upstream_idle_event,
    upstream_idle_timer,
    upstream_keep,
    upstream_leave,
)
from fastpath.linux.file cimport (
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
)
from fastpath.linux.socket cimport MSG_DONTWAIT, MSG_PEEK, recv
from fastpath.mailbox cimport letter_t
from fastpath.poller cimport TAG_CLIENT, poller_change, tag_make
from fastpath.request cimport exchange_head
from fastpath.respond cimport (
    RESPOND,
    RESPOND_ASK,
    RESPOND_BROKEN,
    RESPOND_CLIENT,
    RESPOND_DONE,
    RESPOND_FAILED,
    RESPOND_MORE,
    RESPOND_NO_MEMORY,
    RESPOND_STALE,
    RESPOND_UPGRADED,
    respond_run,
)
from fastpath.slab cimport SLAB_NONE, slab_at, slab_find, slab_give, slot_t
from fastpath.stats cimport (
    DROP_CLOSED,
    DROP_HEADER_TIMEOUT,
    DROP_IDLE_TIMEOUT,
    DROP_NO_MEMORY,
    DROP_RESET_BY_BACKEND,
    DROP_RESET_BY_CLIENT,
    web_stats,
)
from fastpath.timer cimport TIMER_EXCHANGE, timer_arm, timer_t
from fastpath.transport cimport transport_read
from fastpath.tunnel cimport exchange_tunnel, tunnel_run
from fastpath.upstream cimport REACH, REACH_WAIT, upstream_go_on, upstream_late
from fastpath.web cimport (
    EX_FLOWING,
    EX_HEAD,
    EX_IDLE,
    EX_LINGER,
    EX_PARKED,
    EX_REACHING,
    EX_TUNNEL,
    LINGER_BYTES,
    SV_BUSY,
    SV_IDLE,
    exchange_t,
    server_t,
    web_t,
)


cdef enum:
    STEPS_MOST = 256     # of a client who pipelines, before others have their turn


cdef void web_open(
    web_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil:
    cdef exchange_t* x = exchange_open(w, fd, vip, client)

    if x != NULL:
        exchange_run(w, x)


# ---- Both directions.

cdef STEP request_run(web_t* w, exchange_t* x) noexcept nogil:
    cdef mover_t* m = &w.rs.mover
    cdef spill_t* surplus = NULL
    cdef CARRY carry

    if x.deaf or x.up == NULL or (x.request.done and x.to_up.first == NULL):
        return STEP_WAIT
    carry = body_carry(m, &x.request, &x.down, &x.up.link, &x.to_up, &surplus)
    if surplus != NULL:
        # The next request, pipelined. Nothing of this one is held: it was streamed.
        x.input = surplus
    if carry == CARRY_MORE:
        return STEP_TURN
    if carry == CARRY_TARGET:
        x.deaf = 1
        x.up.keep = 0
        x.up.link.readable = 1
        pending_drop(m, &x.to_up)
    elif carry == CARRY_SOURCE or carry == CARRY_FAULT or carry == CARRY_NO_MEMORY:
        # An end that is too early must look so to the upstream, too.
        exchange_drop(
            w, x, DROP_NO_MEMORY if carry == CARRY_NO_MEMORY else DROP_RESET_BY_CLIENT
        )
        return STEP_GONE
    return STEP_WAIT


cdef STEP response_run(web_t* w, exchange_t* x) noexcept nogil:
    cdef RESPOND r

    if x.up == NULL and not x.answering:
        return STEP_WAIT
    r = respond_run(w, x)
    if r == RESPOND_DONE:
        return exchange_done(w, x)
    if r == RESPOND_MORE:
        return STEP_TURN
    if r == RESPOND_UPGRADED:
        return exchange_tunnel(w, x)
    if r == RESPOND_ASK:
        return exchange_ask_on(w, x)
    if r == RESPOND_STALE:
        return exchange_replay(w, x)
    if r == RESPOND_FAILED:
        upstream_leave(w, x, True)
        return exchange_fail(w, x, 502, w.why)
    if r == RESPOND_BROKEN:
        exchange_drop(w, x, DROP_RESET_BY_BACKEND)
        return STEP_GONE
    if r == RESPOND_CLIENT or r == RESPOND_NO_MEMORY:
        exchange_drop(
            w, x, DROP_RESET_BY_CLIENT if r == RESPOND_CLIENT else DROP_NO_MEMORY
        )
        return STEP_GONE
    return STEP_WAIT


# The response has been sent.
cdef STEP exchange_done(web_t* w, exchange_t* x) noexcept nogil:
    if x.up != NULL and x.up.link.wary:
        x.deaf = 1  # it has answered and gone
    if not x.deaf and (not x.request.done or x.to_up.first != NULL):
        return STEP_WAIT  # the upstream still takes it
    exchange_count(w, x)
    if x.up != NULL:
        if x.up.keep and not x.deaf and not x.upgrade:
            upstream_keep(w, x)
        else:
            upstream_leave(w, x, False)
    if not x.request.done:
        x.keep = 0
    if x.held > 0:
        input_take(w, x, x.held)
    exchange_clear(w, x)
    if x.keep and not x.retiring:
        exchange_idle(w, x)
        return STEP_ON
    return exchange_end(w, x)


cdef STEP linger_run(web_t* w, exchange_t* x) noexcept nogil:
    cdef ssize_t n = 1

    while x.down.readable and x.lingered < LINGER_BYTES:
        n = transport_read(&x.down, w.rs.mover.scratch, SCRATCH_BYTES)
        if n <= 0:
            break
        x.lingered += <uint32_t>n
    if n == -EAGAIN or (n > 0 and x.lingered < LINGER_BYTES):
        return STEP_WAIT
    exchange_drop(w, x, DROP_CLOSED)
    return STEP_GONE


# ---- Events.

cdef STEP exchange_step(web_t* w, exchange_t* x) noexcept nogil:
    cdef STEP sent

    if x.state == EX_IDLE or x.state == EX_HEAD:
        return exchange_head(w, x)
    if x.state == EX_FLOWING:
        sent = request_run(w, x)
        if sent == STEP_GONE:
            return STEP_GONE
        if x.state == EX_FLOWING:
            return flow_step(response_run(w, x), sent)
        return sent
    if x.state == EX_TUNNEL:
        return tunnel_run(w, x)
    if x.state == EX_LINGER:
        return linger_run(w, x)
    return STEP_WAIT


cdef inline STEP flow_step(STEP response, STEP request) noexcept nogil:
    return request if response == STEP_WAIT else response


cdef void exchange_run(web_t* w, exchange_t* x) noexcept nogil:
    cdef STEP step = STEP_ON
    cdef int steps = 0

    while step == STEP_ON and steps < STEPS_MOST:
        step = exchange_step(w, x)
        steps += 1
    if step == STEP_TURN or step == STEP_ON:
        exchange_queue(w, x)
    if step != STEP_GONE and not x.polled_out and not x.down.writable:
        # Asked for when first needed: most clients take all we have at once.
        x.polled_out = 1
        poller_change(
            w.rs.poller, x.down.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
            tag_make(TAG_CLIENT, x.slot.index, x.slot.generation),
        )


cdef void exchange_queue(web_t* w, exchange_t* x) noexcept nogil:
    if x.queued:
        return
    x.queued = 1
    x.next = SLAB_NONE
    if w.run_first == SLAB_NONE:
        w.run_first = x.slot.index
    else:
        (<exchange_t*>slab_at(&w.exchanges, w.run_last)).next = x.slot.index
    w.run_last = x.slot.index


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


# The client has ended its side. While it waits for a response that means that it has
# gone: a watch would otherwise stay for ever. What it pipelined before is served.
cdef bint client_left(exchange_t* x) noexcept nogil:
    cdef char byte

    if x.state != EX_PARKED and x.state != EX_REACHING and x.state != EX_FLOWING:
        return False
    if x.state == EX_FLOWING and not x.request.done:
        return False  # reading the body will tell
    return x.down.ssl != NULL or recv(
        x.down.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT
    ) == 0


cdef void web_client_event(
    web_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil:
    cdef exchange_t* x = <exchange_t*>slab_find(&w.exchanges, index, generation)

    if x == NULL or x.down.fd == -1:
        return  # of one that this very batch has ended
    if events & EPOLLERR:
        exchange_drop(w, x, DROP_RESET_BY_CLIENT)
        return
    if events & EPOLLOUT:
        x.down.writable = 1
    if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP):
        x.down.readable = 1
    if events & (EPOLLRDHUP | EPOLLHUP):
        x.down.wary = 1
        if client_left(x):
            exchange_drop(w, x, DROP_RESET_BY_CLIENT)
            return
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
    if x.deadline_ms > w.rs.now_ms:
        timer_arm(w.rs.wheel, &x.timer, x.deadline_ms)
    elif x.state == EX_PARKED:
        web_stats(w.rs.stats, x.vip.slot).unanswered += 1
        if exchange_say(w, x, 503, b"no decision in time") == STEP_ON:
            exchange_run(w, x)
    elif x.state == EX_HEAD:
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
