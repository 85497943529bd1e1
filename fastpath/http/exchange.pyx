"""The life of a request, from top to bottom.

`exchange_run` drives it: `exchange_step` does the work of the state that the connection
is in, by a call of one module, and returns what came of it; `exchange_next` says what
that leads to. No other function sets `conn.state` once a client was let in. The states,
the results and the drawing are in state.pxd.
"""

from libc.stdint cimport uint64_t

from fastpath.base.end cimport END_POLLED_OUT
from fastpath.base.linux.file cimport EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from fastpath.base.linux.socket cimport MSG_DONTWAIT, MSG_PEEK, recv
from fastpath.base.poller cimport TAG_CONN, poller_change, tag_make
from fastpath.base.slab cimport run_push
from fastpath.base.stats cimport (
    DROP,
    DROP_CLOSED,
    DROP_NO_MEMORY,
    DROP_RESET_BY_BACKEND,
    DROP_RESET_BY_CLIENT,
    DROP_TLS_HANDSHAKE,
)
from fastpath.http.conn cimport (
    conn_drop,
    conn_end,
    conn_linger,
    conn_secure,
    conn_stall,
    conn_until,
    exchange_free,
)
from fastpath.http.idle cimport upconn_keep
from fastpath.http.meter cimport meter_close, meter_open
from fastpath.http.question cimport question_ask, question_ask_on, question_decide
from fastpath.http.record cimport exchange_count
from fastpath.http.request cimport (
    request_forget,
    request_move,
    request_read,
    request_replay,
    request_send,
)
from fastpath.http.response cimport response_move
from fastpath.http.state cimport (
    CONN_DECIDING,
    CONN_FLOWING,
    CONN_HANDSHAKE,
    CONN_HEAD,
    CONN_IDLE,
    CONN_LINGER,
    CONN_PARKED,
    CONN_REACHING,
    CONN_SENDING,
    CONN_TUNNEL,
    LINGER_MS,
    STEP_ANSWERED,
    STEP_CLIENT_FAILED,
    STEP_CLOSED,
    STEP_CONNECTED,
    STEP_DONE,
    STEP_FORWARD,
    STEP_KEPT,
    STEP_LINGER,
    STEP_LOST,
    STEP_ON,
    STEP_PARKED,
    STEP_PARSED,
    STEP_PARTIAL,
    STEP_PASSED,
    STEP_REFUSED,
    STEP_SECURED,
    STEP_SENT,
    STEP_TLS_FAILED,
    STEP_TURN,
    STEP_UNKNOWN,
    STEP_UPGRADED,
    STEP_UPSTREAM_FAILED,
    STEP_WAIT,
    exchange_bytes,
    exchange_t,
    http_of,
)
from fastpath.http.tunnel cimport tunnel_begin, tunnel_move, tunnel_until
from fastpath.http.upconn cimport upconn_reach
from fastpath.table.table cimport http_t


cdef enum:
    STEPS_MOST = 1024    # of a client that pipelines, before others have their turn


# ---- What a state does.

cdef STEP exchange_step(conns_t* w, conn_t* conn) noexcept nogil:
    # The most frequent first. Each call may be repeated after any event: it finds out
    # by itself what can be done now.
    if conn.state == CONN_FLOWING or conn.state == CONN_TUNNEL:
        return exchange_move(w, conn.exchange)
    if conn.state == CONN_IDLE or conn.state == CONN_HEAD:
        return request_read(w, conn)
    if conn.state == CONN_DECIDING:
        return question_decide(w, conn.exchange)
    if conn.state == CONN_REACHING:
        return upconn_reach(w, conn.exchange)
    if conn.state == CONN_SENDING:
        return request_send(w, conn.exchange)
    if conn.state == CONN_HANDSHAKE:
        return conn_secure(w, conn)
    if conn.state == CONN_LINGER:
        return conn_linger(w, conn)
    return STEP_WAIT  # CONN_PARKED: for a letter


# Move bytes, as far as its quota allows.
cdef STEP exchange_move(conns_t* w, exchange_t* x) noexcept nogil:
    cdef bint flows = x.conn.state == CONN_FLOWING
    cdef uint64_t before
    cdef STEP step

    if x.quota == NULL:
        return exchange_flow(w, x) if flows else tunnel_move(w, x)
    if not meter_open(w, x):
        if not flows:
            tunnel_until(w, x)  # it is we that let it wait
        return STEP_WAIT
    before = exchange_bytes(x)
    step = exchange_flow(w, x) if flows else tunnel_move(w, x)
    meter_close(w, x, exchange_bytes(x) - before)
    return step


# Request and response move side by side: a response may come before its request is
# whole, and either may wait for the other's socket.
cdef STEP exchange_flow(conns_t* w, exchange_t* x) noexcept nogil:
    cdef STEP sent = request_move(w, x)
    cdef STEP answered

    # After WAIT and TURN the response has its turn; any other result ends the flow.
    if sent > STEP_TURN:
        return sent
    answered = response_move(w, x)
    # Once the client has seen a head, the request cannot be sent to another backend:
    # its bytes are given back, and the buffer with them.
    if x.answering and answered < STEP_CLOSED:
        request_forget(w, x)
    return sent if answered == STEP_WAIT else answered


# ---- What a result leads to.

# The table of transitions, as a switch. STEP_ON, another result, or one to stop at.
cdef STEP exchange_next(conns_t* w, conn_t* conn, STEP step) noexcept nogil:
    cdef http_t* http

    # First the results that need more work, which has a result of its own; then those
    # that are a transition. Without a vip (http is NULL) a deadline of 1 ms ends it.
    if step == STEP_DONE:
        return exchange_done(w, conn.exchange)
    if step == STEP_UNKNOWN:
        return question_ask(w, conn.exchange)
    if step == STEP_REFUSED:
        return question_ask_on(w, conn.exchange)
    if step == STEP_LOST:
        return request_replay(w, conn.exchange)
    if step == STEP_PARSED:
        conn.state = CONN_DECIDING
    elif step == STEP_FORWARD:
        conn.state = CONN_REACHING
    elif step == STEP_CONNECTED:
        conn.state = CONN_SENDING
    elif step == STEP_SENT or step == STEP_ANSWERED or step == STEP_PASSED:
        conn.state = CONN_FLOWING
    elif step == STEP_KEPT or step == STEP_SECURED:
        conn.state = CONN_IDLE
        http = http_of(w, conn)
        conn_until(w, conn, http.idle_ms if http != NULL else 1)
    elif step == STEP_PARTIAL:
        # Set once, with the first byte: a client that sends a byte now and then gets no
        # more time for that.
        conn.state = CONN_HEAD
        http = http_of(w, conn)
        conn_until(w, conn, http.header_ms if http != NULL else 1)
    elif step == STEP_LINGER:
        conn.state = CONN_LINGER
        conn_until(w, conn, LINGER_MS)
    elif step == STEP_PARKED:
        conn.state = CONN_PARKED
    elif step == STEP_UPGRADED:
        conn.state = CONN_TUNNEL
        return tunnel_begin(w, conn.exchange)
    return STEP_ON


# The response has been sent.
cdef STEP exchange_done(conns_t* w, exchange_t* x) noexcept nogil:
    cdef conn_t* conn = x.conn
    cdef bint whole = x.request.done

    # In order: let the request end, if the upstream still takes it; count; keep the
    # upstream connection, if it can be; give the rest back; keep or end the client's.
    if x.up != NULL and x.up.link.end.rdhup_seen:
        x.request_abandoned = 1  # the upstream has answered and ended its side
    if not x.request_abandoned and (not whole or x.to_up.first != NULL):
        return STEP_WAIT  # the upstream still takes the request
    exchange_count(w, x, False)
    if x.up != NULL and x.up.keep and not x.request_abandoned and not x.upgrade:
        upconn_keep(w, x)
    if not whole:
        conn.keep = 0  # the next request would begin inside this one's body
    request_forget(w, x)
    exchange_free(w, x, False)
    if conn.keep and not conn.vip_drains:
        return STEP_KEPT
    return conn_end(w, conn, whole)


# Why a connection ends, where a result says so.
cdef DROP drop_reason(STEP step) noexcept nogil:
    if step == STEP_CLIENT_FAILED:
        return DROP_RESET_BY_CLIENT
    if step == STEP_UPSTREAM_FAILED:
        return DROP_RESET_BY_BACKEND
    if step == STEP_TLS_FAILED:
        return DROP_TLS_HANDSHAKE
    return DROP_CLOSED if step == STEP_CLOSED else DROP_NO_MEMORY


# ---- The driver.

cdef void exchange_run(conns_t* w, conn_t* conn, STEP step) noexcept nogil:
    cdef int steps = 0

    # In order: let results lead to states and states to results, until nothing goes
    # on; then end the connection, queue it, or set a deadline for what it waits for; at
    # last, if the client's socket was full, let the poller tell when it is not.
    while step > STEP_TURN and step < STEP_CLOSED:
        if step != STEP_ON:
            step = exchange_next(w, conn, step)
        elif steps == STEPS_MOST:
            step = STEP_TURN
        else:
            step = exchange_step(w, conn)
            steps += 1
    if step == STEP_WAIT and client_left(conn):
        step = STEP_CLIENT_FAILED
    if step >= STEP_CLOSED:
        conn_drop(w, conn, drop_reason(step))
        return
    if step == STEP_TURN:
        run_push(&w.c.run, &conn.slot)
    elif conn.state == CONN_FLOWING:
        conn_stall(w, conn)
    if not conn.down.end.writable and not conn.down.end.flags & END_POLLED_OUT:
        # Asked for when first needed: most clients take all we have at once.
        conn.down.end.flags |= END_POLLED_OUT
        poller_change(
            &w.c.poller, conn.down.end.fd,
            EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
            tag_make(TAG_CONN, conn.slot.index, conn.slot.generation),
        )


# Whether the client has closed the connection. A FIN says only that it sends no more;
# while it waits for a response it is taken for a close, as Go's server does, because a
# watch that no client reads would otherwise stay for ever.
cdef bint client_left(conn_t* conn) noexcept nogil:
    cdef exchange_t* x = conn.exchange
    cdef char byte

    if not conn.down.end.rdhup_seen:
        return False
    if conn.state == CONN_FLOWING:
        if x.response.done or not x.request.done:
            return False  # writing the rest, or reading the body, tells
    elif conn.state != CONN_PARKED and conn.state != CONN_REACHING:
        return False
    # Unread bytes before the FIN are a pipelined request: serve this one first. Under
    # TLS they may be a close_notify; there the event alone counts.
    return conn.down.ssl != NULL or recv(
        conn.down.end.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT
    ) == 0
