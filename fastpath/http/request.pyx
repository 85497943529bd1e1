"""Requests: their heads are read and parsed, one at a time, and sent with their bodies.

A head is parsed once, and belongs to its exchange until it was sent. It is lent by the
worker, which keeps a few, because a head_t is larger than all else that an exchange
has. A request that is sent again, or was parked, is parsed again: its bytes stay in the
client's input, `held` of them, until the client has seen a response.
"""

from libc.errno cimport EAGAIN, ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memmove, memset

from fastpath.base.spill cimport SCRATCH_BYTES, mover_t, spill_get, spill_t
from fastpath.base.stats cimport (
    VERB,
    VERB_DELETE,
    VERB_GET,
    VERB_HEAD,
    VERB_OPTIONS,
    VERB_OTHER,
    VERB_PATCH,
    VERB_POST,
    VERB_PUT,
    http_stats,
)
from fastpath.http.asking cimport asking_new
from fastpath.http.body cimport (
    body_begin,
    body_hold,
    body_move,
    body_take,
    pending_drop,
    pending_send,
)
from fastpath.http.conn cimport exchange_new, input_drop, input_take
from fastpath.http.heads cimport head_lend, head_return
from fastpath.http.idle cimport upconn_leave
from fastpath.http.meter cimport meter_charge
from fastpath.http.record cimport record_begin
from fastpath.http.reply cimport exchange_fail, exchange_say, out_begin
from fastpath.http.state cimport (
    CONN_HEAD,
    CONN_IDLE,
    STEP_CLIENT_FAILED,
    STEP_CLOSED,
    STEP_DONE,
    STEP_FAULT,
    STEP_FORWARD,
    STEP_NO_MEMORY,
    STEP_ON,
    STEP_PARSED,
    STEP_PARTIAL,
    STEP_SENT,
    STEP_UPSTREAM_FAILED,
    STEP_WAIT,
    input_bytes,
)
from fastpath.http.upconn cimport exchange_repeats, upconn_failed
from fastpath.http1.compose cimport compose_request, out_put, out_t
from fastpath.http1.framing cimport BODY_SIZED, FAULT, fault_status, fault_text, head_t
from fastpath.http1.head cimport head_parse_request, head_skip_empty
from fastpath.tls.transport cimport transport_read


# ---- Reading heads.

# Read more of a head. STEP_ON = got some.
cdef STEP head_read(conns_t* w, conn_t* conn) noexcept nogil:
    cdef spill_t* s
    cdef ssize_t n

    # In order: a buffer, if there is none; room behind what is in it; one read.
    if not conn.down.end.readable:
        return STEP_WAIT
    if conn.input == NULL:
        conn.input = spill_get(&w.c.mover)
        if conn.input == NULL:
            return STEP_CLIENT_FAILED if conn.state == CONN_HEAD else STEP_CLOSED
    # A head must stand in one piece: what pipelined requests left in front is taken out
    # once half of the buffer is used.
    s = conn.input
    if s.first > 0 and s.first + s.used > SCRATCH_BYTES // 2:
        memmove(s.bytes, s.bytes + s.first, s.used)
        s.first = 0
    n = transport_read(
        &conn.down, s.bytes + s.first + s.used, SCRATCH_BYTES - s.first - s.used
    )
    if n == -EAGAIN:
        return STEP_WAIT
    if n <= 0:  # between requests a client may leave: that is no failure
        return STEP_CLIENT_FAILED if conn.state == CONN_HEAD else STEP_CLOSED
    s.used += <uint32_t>n
    return STEP_ON


# Refuse what is no request, and end the connection: where a next request would begin
# cannot be told.
cdef STEP head_refuse(conns_t* w, exchange_t* x, int fault) noexcept nogil:
    # What was parsed before the fault may be wrong: answer as to an unknown method of
    # HTTP/1.1. A request that is not done makes exchange_say end the connection.
    x.verb = VERB_OTHER
    x.minor = 1
    x.is_head = 0
    memset(&x.request, 0, sizeof(x.request))
    return exchange_say(w, x, fault_status(<FAULT>fault), fault_text(<FAULT>fault))


# Taken from the input, so that a client that sent nothing else is idle.
cdef inline void request_skip_empty(conns_t* w, conn_t* conn) noexcept nogil:
    cdef uint32_t size = head_skip_empty(
        input_bytes(conn), conn.input.used, &conn.empty_lines
    )

    if size > 0:
        conn.scanned = 0  # its CR was
        input_take(w, conn, size)


cdef STEP request_read(conns_t* w, conn_t* conn) noexcept nogil:
    cdef head_t* h
    cdef exchange_t* x
    cdef STEP step
    cdef int got

    # In order: parse what is here; begin the exchange if that is a head; else read.
    if conn.input != NULL and conn.scanned <= 1:
        request_skip_empty(w, conn)
    if conn.input != NULL and conn.input.used > conn.scanned:
        # Lent for a try: a client that sends byte by byte must not keep one.
        h = head_lend(w)
        if h == NULL:
            return STEP_NO_MEMORY
        got = head_parse_request(
            h, input_bytes(conn), conn.input.used, conn.scanned
        )
        if got != 0:
            # Also for a refusal: it is an exchange like others, counted and answered.
            x = exchange_new(w, conn)
            if x == NULL:
                head_return(w, h)
                return STEP_NO_MEMORY
            x.head = h
            conn.scanned = 0
            conn.empty_lines = 0
            return request_begin(w, x) if got > 0 else head_refuse(w, x, h.fault)
        head_return(w, h)
        conn.scanned = conn.input.used
        if conn.state == CONN_IDLE:
            return STEP_PARTIAL
    step = head_read(w, conn)
    if step == STEP_WAIT and conn.input != NULL and conn.input.used == 0:
        input_drop(w, conn)  # ten thousand idle clients hold no buffer of 64 KiB each
    return step


cdef VERB verb_of(const char* bytes, const head_t* h) noexcept nogil:
    cdef const char* m = bytes + h.method.at

    if h.method.size == 3:
        if memcmp(m, b"GET", 3) == 0:
            return VERB_GET
        if memcmp(m, b"PUT", 3) == 0:
            return VERB_PUT
    elif h.method.size == 4:
        if memcmp(m, b"POST", 4) == 0:
            return VERB_POST
        if memcmp(m, b"HEAD", 4) == 0:
            return VERB_HEAD
    elif h.method.size == 5 and memcmp(m, b"PATCH", 5) == 0:
        return VERB_PATCH
    elif h.method.size == 6 and memcmp(m, b"DELETE", 6) == 0:
        return VERB_DELETE
    elif h.method.size == 7 and memcmp(m, b"OPTIONS", 7) == 0:
        return VERB_OPTIONS
    return VERB_OTHER


# x.head is whole, at the front of the input: note what the exchange needs of it.
cdef STEP request_begin(conns_t* w, exchange_t* x) noexcept nogil:
    cdef conn_t* conn = x.conn
    cdef head_t* h = x.head
    cdef char* bytes = input_bytes(conn)

    # In order: what the exchange needs of the head, which is given back once sent; what
    # of the body is here; the record for the access log.
    w.c.stats.heads += 1
    x.verb = verb_of(bytes, h)
    x.minor = h.minor
    x.is_head = h.is_head
    x.expects = h.expects
    # RFC 9110 9.2.2; of a method that we do not know, assume the worst.
    x.idempotent = x.verb != VERB_POST and x.verb != VERB_PATCH and (
        x.verb != VERB_OTHER
    )
    conn.keep = h.keep_alive and not conn.vip_drains
    conn.deadline_ms = 0  # that of the head
    body_begin(&x.request, h, True)
    if body_take(&x.request, bytes + h.size, conn.input.used - h.size) < 0:
        return head_refuse(w, x, x.request.chunks.fault)
    x.head_size = h.size
    x.held = h.size + <uint32_t>x.request.bytes
    record_begin(w, x)
    if h.method.size == 7 and memcmp(bytes + h.method.at, b"CONNECT", 7) == 0:
        conn.keep = 0  # a client may send bytes for the tunnel at once
        return exchange_say(w, x, 405, b"CONNECT is not served here")
    return STEP_PARSED


cdef bint request_parsed(conns_t* w, exchange_t* x) noexcept nogil:
    if x.head != NULL:
        return True
    # The same bytes gave a head before, so the result needs no look.
    x.head = head_lend(w)
    if x.head == NULL:
        return False
    head_parse_request(x.head, input_bytes(x.conn), x.conn.input.used, 0)
    return True


# ---- Sending.

cdef STEP request_send(conns_t* w, exchange_t* x) noexcept nogil:
    cdef char* bytes
    cdef out_t o
    cdef int failed

    # In order: write the head, with the edits of the verdict, and what is here of the
    # body behind it; give the parsed head back; send; stop holding a body that is too
    # large to be held.
    if not request_parsed(w, x):
        return STEP_NO_MEMORY
    bytes = input_bytes(x.conn)
    out_begin(w, &o)
    compose_request(
        &o, x.head, bytes, &x.verdict.edits, &x.conn.client, x.upgrade
    )
    out_put(&o, bytes + x.head_size, x.held - x.head_size)
    head_return(w, x.head)
    x.head = NULL
    if o.full:  # with what the edits add; nothing was sent
        upconn_leave(w, x, False)
        return exchange_say(w, x, 431, b"request head is too large")
    if x.rescue:
        x.rescue = 0
        http_stats(&w.c.stats, x.conn.vip.slot).rescued += 1
    if x.quota != NULL:
        meter_charge(w, x, o.size)
    failed = pending_send(&w.c.mover, &x.to_up, &x.up.link, o.bytes, o.size)
    if failed == -ENOMEM:
        return STEP_NO_MEMORY
    if failed < 0:
        # Read before giving up: an upstream may answer and close without reading all.
        # If it did not, response_headless says what happened.
        x.request_abandoned = 1
        x.up.link.end.readable = 1
    if x.request.kind == BODY_SIZED and x.request.left > SCRATCH_BYTES - x.held:
        # Too large to be sent a second time: streamed from here.
        request_remember(w, x)
        request_forget(w, x)
    return STEP_SENT


# Before its bytes are given back: Python may still have to see the request, if the
# upstream refuses it. Without memory it does not.
cdef void request_remember(conns_t* w, exchange_t* x) noexcept nogil:
    if x.verdict.ask_on != 0 and not x.asked_on and x.question == NULL:
        x.question = asking_new(w, x)


cdef void request_forget(conns_t* w, exchange_t* x) noexcept nogil:
    if x.held > 0:
        input_take(w, x.conn, x.held)
        x.held = 0


cdef STEP request_replay(conns_t* w, exchange_t* x) noexcept nogil:
    cdef bint kept = x.up.used
    # RFC 9112 9.3.1: an idempotent request may be sent again. If a kept connection had
    # ended, once, to any backend; if a new one ended, to a backend that was not tried,
    # as often as the pool dials. An address of the verdict's own has no other backend.
    cdef bint again = exchange_repeats(x) and (
        not x.replayed if kept else not x.up.addressed
    )

    # In order: count a backend that took the request and died; leave it; then another
    # connection, which is a new one: a server that restarts has closed the idle ones.
    if kept or x.up.addressed:
        upconn_leave(w, x, False)
    else:
        upconn_failed(w, x)
    if not again:
        return exchange_fail(w, x, 502, w.why)
    x.idle_ended = 1
    x.request_abandoned = 0
    x.conn.deadline_ms = 0  # that of a body: conn_stall sets the next one
    if kept:
        x.replayed = 1
        http_stats(&w.c.stats, x.conn.vip.slot).replayed += 1
    else:
        x.rescue = 1  # counted once it is sent: there may be no other backend
    return STEP_FORWARD


# A body that may have to be sent once more is kept while it comes, as long as it fits.
cdef STEP request_hold(conns_t* w, exchange_t* x) noexcept nogil:
    cdef uint64_t before = x.request.bytes
    cdef STEP step = body_hold(
        &w.c.mover, &x.request, &x.conn.down, &x.up.link, &x.to_up, x.conn.input
    )

    x.held += <uint32_t>(x.request.bytes - before)
    if step == STEP_ON:
        request_remember(w, x)
        input_drop(w, x.conn)
        x.held = 0
    return step


cdef STEP request_move(conns_t* w, exchange_t* x) noexcept nogil:
    cdef mover_t* m = &w.c.mover
    cdef spill_t* surplus = NULL
    cdef STEP step = STEP_ON
    cdef FAULT fault

    # In order: move the body, by way of the input while it is held, then directly; keep
    # what came behind it; deal with an upstream or a framing that failed.
    if x.request_abandoned or x.up == NULL or (
        x.request.done and x.to_up.first == NULL
    ):
        return STEP_WAIT
    if x.held > 0:
        step = request_hold(w, x)
    if x.held == 0 and step == STEP_ON:
        step = body_move(
            m, &x.request, &x.conn.down, &x.up.link, &x.to_up, &surplus
        )
    if surplus != NULL:
        x.conn.input = surplus  # the next request, pipelined
    if step == STEP_DONE:
        return STEP_WAIT  # for the response, which ends the exchange
    if step == STEP_UPSTREAM_FAILED:
        # As above: it may have answered before it closed.
        x.request_abandoned = 1
        x.up.keep = 0
        x.up.link.end.readable = 1
        pending_drop(m, &x.to_up)
        return STEP_WAIT
    if step == STEP_FAULT:
        if x.answering:
            return STEP_CLIENT_FAILED  # too late for a status
        # With a reset: the upstream must not take what it has for the whole body.
        fault = <FAULT>x.request.chunks.fault
        upconn_leave(w, x, True)
        return exchange_say(w, x, fault_status(fault), fault_text(fault))
    return step
