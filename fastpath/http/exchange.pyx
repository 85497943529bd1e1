"""The life of an exchange: both directions moved by one function, `exchange_run`, which
every event of either side calls. It stops when both directions wait.
"""

from libc.stdint cimport uint32_t, uint64_t

from fastpath.base.linux.file cimport EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from fastpath.base.linux.socket cimport MSG_DONTWAIT, MSG_PEEK, recv
from fastpath.base.poller cimport TAG_CONN, poller_change, tag_make
from fastpath.base.slab cimport run_push
from fastpath.base.spill cimport mover_t, spill_t
from fastpath.base.stats cimport (
    DROP_NO_MEMORY,
    DROP_RESET_BY_BACKEND,
    DROP_RESET_BY_CLIENT,
)
from fastpath.http.body cimport (
    CARRY,
    CARRY_FAULT,
    CARRY_MORE,
    CARRY_NO_MEMORY,
    CARRY_SOURCE,
    CARRY_TARGET,
    CARRY_WAIT,
    body_carry,
    body_hold,
    pending_drop,
)
from fastpath.http.conn cimport (
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
    exchange_linger,
    exchange_say,
    exchange_stall,
    input_drop,
    input_take,
)
from fastpath.http.decide cimport exchange_ask_on, exchange_replay
from fastpath.http.idle cimport exchange_keep_upconn, exchange_leave_upconn
from fastpath.http.request cimport exchange_handshake, exchange_head
from fastpath.http.response cimport (
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
from fastpath.http.state cimport (
    CONN_FLOWING,
    CONN_HANDSHAKE,
    CONN_HEAD,
    CONN_IDLE,
    CONN_LINGER,
    CONN_PARKED,
    CONN_REACHING,
    CONN_TUNNEL,
    conns_t,
    exchange_t,
)
from fastpath.http.tunnel cimport exchange_tunnel, tunnel_run
from fastpath.http1.framing cimport FAULT, fault_status, fault_text


cdef enum:
    STEPS_MOST = 256     # of a client who pipelines, before others have their turn


# ---- Both directions.

# A body that may have to be sent once more, see exchange_replay and exchange_ask_on.
cdef CARRY request_hold(conns_t* w, exchange_t* x) noexcept nogil:
    cdef uint64_t before = x.request.bytes
    cdef CARRY carry = body_hold(
        &w.c.mover, &x.request, &x.down, &x.up.link, &x.to_up, x.input
    )

    x.held += <uint32_t>(x.request.bytes - before)
    if carry == CARRY_MORE:
        input_drop(w, x)
        x.held = 0
    return carry


cdef STEP request_run(conns_t* w, exchange_t* x) noexcept nogil:
    cdef mover_t* m = &w.c.mover
    cdef spill_t* surplus = NULL
    cdef CARRY carry = CARRY_WAIT
    cdef FAULT fault

    if x.request_abandoned or x.up == NULL or (
        x.request.done and x.to_up.first == NULL
    ):
        return STEP_WAIT
    if x.held > 0:
        carry = request_hold(w, x)
    if x.held == 0:
        carry = body_carry(m, &x.request, &x.down, &x.up.link, &x.to_up, &surplus)
    if surplus != NULL:
        x.input = surplus  # the next request, pipelined
    if carry == CARRY_MORE:
        return STEP_TURN
    if carry == CARRY_TARGET:
        x.request_abandoned = 1
        x.up.keep = 0
        x.up.link.end.readable = 1
        pending_drop(m, &x.to_up)
    elif carry == CARRY_FAULT and not x.answering:
        # To the upstream it looks like the end that is too early.
        fault = <FAULT>x.request.chunks.fault
        exchange_leave_upconn(w, x, True)
        return exchange_say(w, x, fault_status(fault), fault_text(fault))
    elif carry == CARRY_SOURCE or carry == CARRY_FAULT or carry == CARRY_NO_MEMORY:
        # An end that is too early must look so to the upstream, too.
        exchange_drop(
            w, x, DROP_NO_MEMORY if carry == CARRY_NO_MEMORY else DROP_RESET_BY_CLIENT
        )
        return STEP_GONE
    return STEP_WAIT


cdef STEP response_run(conns_t* w, exchange_t* x) noexcept nogil:
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
        exchange_leave_upconn(w, x, True)
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
cdef STEP exchange_done(conns_t* w, exchange_t* x) noexcept nogil:
    if x.up != NULL and x.up.link.end.rdhup_seen:
        x.request_abandoned = 1  # it has answered and gone
    if not x.request_abandoned and (not x.request.done or x.to_up.first != NULL):
        return STEP_WAIT  # the upstream still takes it
    exchange_count(w, x)
    if x.up != NULL:
        if x.up.keep and not x.request_abandoned and not x.upgrade:
            exchange_keep_upconn(w, x)
        else:
            exchange_leave_upconn(w, x, False)
    if not x.request.done:
        x.keep = 0
    if x.held > 0:
        input_take(w, x, x.held)
    exchange_clear(w, x)
    if x.keep and not x.retiring:
        exchange_idle(w, x)
        return STEP_ON
    return exchange_end(w, x)


# ---- Turns.

cdef STEP exchange_step(conns_t* w, exchange_t* x) noexcept nogil:
    cdef STEP sent

    if x.state == CONN_IDLE or x.state == CONN_HEAD:
        return exchange_head(w, x)
    if x.state == CONN_FLOWING:
        sent = request_run(w, x)
        if sent == STEP_GONE:
            return STEP_GONE
        if x.state == CONN_FLOWING:
            return flow_step(response_run(w, x), sent)
        return sent
    if x.state == CONN_HANDSHAKE:
        return exchange_handshake(w, x)
    if x.state == CONN_TUNNEL:
        return tunnel_run(w, x)
    if x.state == CONN_LINGER:
        return exchange_linger(w, x)
    return STEP_WAIT


cdef inline STEP flow_step(STEP response, STEP request) noexcept nogil:
    return request if response == STEP_WAIT else response


# The client has ended its side. While it waits for a response that means that it has
# gone: a watch would otherwise stay for ever. What is with us to the last byte is sent.
cdef bint client_left(exchange_t* x) noexcept nogil:
    cdef char byte

    if not x.down.end.rdhup_seen:
        return False
    if x.state == CONN_FLOWING:
        if x.response.done or not x.request.done:
            return False  # writing it, or reading the body, will tell
    elif x.state != CONN_PARKED and x.state != CONN_REACHING:
        return False
    return x.down.ssl != NULL or recv(
        x.down.end.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT
    ) == 0


cdef void exchange_run(conns_t* w, exchange_t* x) noexcept nogil:
    cdef STEP step = STEP_ON
    cdef int steps = 0

    while step == STEP_ON and steps < STEPS_MOST:
        step = exchange_step(w, x)
        steps += 1
    if step == STEP_WAIT and client_left(x):
        exchange_drop(w, x, DROP_RESET_BY_CLIENT)
        return
    if step == STEP_TURN or step == STEP_ON:
        run_push(&w.c.run, &x.slot)
    elif step == STEP_WAIT and x.state == CONN_FLOWING:
        exchange_stall(w, x)
    if step != STEP_GONE and not x.polled_out and not x.down.end.writable:
        # Asked for when first needed: most clients take all we have at once.
        x.polled_out = 1
        poller_change(
            &w.c.poller, x.down.end.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
            tag_make(TAG_CONN, x.slot.index, x.slot.generation),
        )
