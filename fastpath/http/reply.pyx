"""Replies of our own: those of verdicts, and those that say why a request failed."""

from libc.stdlib cimport free, malloc
from libc.string cimport strlen

from fastpath.http.body cimport pending_send
from fastpath.http.conn cimport input_drop
from fastpath.http.state cimport (
    OUT_BYTES,
    OUT_BYTES_MOST,
    STEP_ANSWERED,
    STEP_CLIENT_FAILED,
    http_of,
)
from fastpath.http.verdict cimport verdict_t, verdict_text
from fastpath.http1.compose cimport (
    compose_between,
    compose_reply,
    compose_text,
    escaped_size,
)
from fastpath.table.table cimport failure_t, http_t


cdef void out_begin(conns_t* w, out_t* o) noexcept nogil:
    # One buffer is enough for a worker: a head is written and sent within one call.
    o.bytes = w.out
    o.room = OUT_BYTES
    o.size = 0
    o.full = False


cdef void out_end(conns_t* w, out_t* o) noexcept nogil:
    if o.bytes != w.out:
        free(o.bytes)
        o.bytes = w.out


cdef bint out_grow(conns_t* w, out_t* o) noexcept nogil:
    cdef size_t room = 2 * o.room
    cdef char* bytes

    out_end(w, o)
    bytes = <char*>malloc(room) if room <= OUT_BYTES_MOST else NULL
    if bytes == NULL:
        return False
    o.bytes = bytes
    o.room = room
    o.size = 0
    o.full = False
    return True


cdef bint out_send(conns_t* w, exchange_t* x, const out_t* o) noexcept nogil:
    return pending_send(
        &w.c.mover, &x.conn.to_down, &x.conn.down, o.bytes, o.size
    ) == 0


# A reply of `bytes` of body, all of which is on its way when the caller returns.
cdef void reply_begin(
    conns_t* w, exchange_t* x, uint16_t status, size_t bytes
) noexcept nogil:
    if not x.request.done:
        # The rest of the body is not read, so no other request can follow on this
        # connection, and what is here of it need not be kept.
        x.conn.keep = 0
        x.request_abandoned = 1
        input_drop(w, x.conn)
        x.held = 0
    x.status = status
    x.answering = 1
    x.response.bytes += 0 if x.is_head else bytes  # HEAD has none, RFC 9110 9.3.2
    x.response.done = 1


cdef STEP exchange_say(
    conns_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil:
    cdef out_t o

    # reply_begin first: it decides whether the connection stays, which the head tells.
    reply_begin(w, x, status, strlen(text) + 1)
    out_begin(w, &o)
    compose_text(&o, status, text, x.minor, x.conn.keep, x.is_head)
    return STEP_ANSWERED if out_send(w, x, &o) else STEP_CLIENT_FAILED


cdef STEP exchange_reply(conns_t* w, exchange_t* x) noexcept nogil:
    cdef const verdict_t* v = x.verdict
    # 512: Date, Connection and the line ends, which compose_reply adds.
    cdef bint apart = v.head.size + v.body.size + 512 > OUT_BYTES
    cdef out_t o

    reply_begin(w, x, v.status, v.body.size)
    out_begin(w, &o)
    compose_reply(
        &o, verdict_text(v, v.head), v.head.size, verdict_text(v, v.body), v.body.size,
        x.minor, x.conn.keep, x.is_head or apart,
    )
    if not out_send(w, x, &o):
        return STEP_CLIENT_FAILED
    # A body that does not fit our buffer is sent from the verdict itself.
    if apart and not x.is_head and pending_send(
        &w.c.mover, &x.conn.to_down, &x.conn.down, v.bytes + v.body.at, v.body.size
    ) < 0:
        return STEP_CLIENT_FAILED
    return STEP_ANSWERED


cdef STEP exchange_explain(
    conns_t* w, exchange_t* x, const failure_t* f, const char* text
) noexcept nogil:
    cdef out_t o

    reply_begin(
        w, x, f.status, strlen(f.before) + escaped_size(text) + strlen(f.after)
    )
    out_begin(w, &o)
    compose_between(
        &o, f.head, f.before, text, f.after, x.minor, x.conn.keep, x.is_head
    )
    if o.full:
        return STEP_CLIENT_FAILED
    return STEP_ANSWERED if out_send(w, x, &o) else STEP_CLIENT_FAILED


cdef STEP exchange_limit(conns_t* w, exchange_t* x) noexcept nogil:
    cdef http_t* http = http_of(w, x.conn)
    cdef const char* text = b"Too many requests, please try again later."

    if http != NULL and http.too_many.head != NULL:
        return exchange_explain(w, x, &http.too_many, text)
    return exchange_say(w, x, 429, text)


cdef STEP exchange_distrust(conns_t* w, exchange_t* x) noexcept nogil:
    cdef http_t* http = http_of(w, x.conn)
    cdef const char* text = b"the client certificate is not trusted any more"

    x.conn.keep = 0  # a new handshake tells whose it is
    if http != NULL and http.untrusted.head != NULL:
        return exchange_explain(w, x, &http.untrusted, text)
    return exchange_say(w, x, 401, text)


cdef STEP exchange_fail(
    conns_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil:
    cdef http_t* http = http_of(w, x.conn)
    cdef failure_t* failure = NULL

    if http != NULL:
        failure = &http.gateway_upgrade if x.upgrade else &http.gateway
        if x.not_upgraded:
            failure = &http.not_upgraded
        if failure.head != NULL:
            return exchange_explain(w, x, failure, text)
    # `kubectl proxy` says 500 where another gateway says 502, 503 or 504.
    if http != NULL and http.gateway_status != 0:
        status = http.gateway_status
    return exchange_say(w, x, status, text)
