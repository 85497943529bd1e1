"""Responses. A head is sent as soon as it is whole, never held back for a body; the
bytes of the body that came with it are sent in the same write.

Before the client has seen a head, a failure becomes a reply that says why: functions
return STEP_UPSTREAM_FAILED with the text in conns_t.why. Behind a head no status can be
sent any more: the client is reset, so that it does not take what came for whole.
"""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf

from fastpath.base.linux.debug cimport check
from fastpath.base.spill cimport SCRATCH_BYTES, mover_t, spill_put, spill_t
from fastpath.http.answer cimport (
    answer_drop,
    answer_hold,
    answer_missing,
    answer_read,
    answer_shift,
)
from fastpath.http.body cimport (
    body_begin,
    body_move,
    body_send,
    body_take,
    pending_flush,
)
from fastpath.http.filter cimport filter_response
from fastpath.http.idle cimport upconn_leave
from fastpath.http.meter cimport meter_charge
from fastpath.http.reply cimport (
    exchange_fail,
    out_begin,
    out_end,
    out_grow,
    out_send,
)
from fastpath.http.rewrite cimport rewrite_begin, rewrite_move, rewrite_some
from fastpath.http.state cimport (
    INFORMATIONAL_MOST,
    STEP_CLIENT_FAILED,
    STEP_DONE,
    STEP_FAULT,
    STEP_NO_MEMORY,
    STEP_ON,
    STEP_REFUSED,
    STEP_UPGRADED,
    STEP_UPSTREAM_FAILED,
    STEP_WAIT,
    upconn_t,
)
from fastpath.http.verdict cimport verdict_t
from fastpath.http1.compose cimport compose_response, out_put, out_t
from fastpath.http1.framing cimport (
    BODY_CHUNKED,
    BODY_TO_EOF,
    FAULT,
    head_allow,
    head_t,
)
from fastpath.http1.head cimport fault_is_size, head_parse_response
from fastpath.table.dialler cimport dialler_answered


# Whether the client's connection stays after this response.
cdef bint response_keeps(const exchange_t* x, const head_t* h) noexcept nogil:
    if not x.conn.keep or h.body == BODY_TO_EOF:
        return False  # a body without a length ends with the connection, for us as well
    if not x.request.done and (x.request_abandoned or not h.keep_alive):
        return False  # the rest of the request will be read by no upstream
    # HTTP/1.0 knows no chunks: without them the stream ends where the body does.
    return not (h.body == BODY_CHUNKED and x.minor == 0)


# The head at hand, with the edits of the verdict if `edited`. Behind it is room for
# what came with it. False = it is too large: see `why`. out_end is due otherwise.
cdef bint response_compose(
    conns_t* w, exchange_t* x, out_t* o, const char* bytes, bint edited
) noexcept nogil:
    cdef const verdict_t* v = x.verdict

    out_begin(w, o)
    while True:
        o.room -= SCRATCH_BYTES
        if edited and v.filter.any:
            filter_response(
                o, &w.answer, bytes, x.minor, x.conn.keep, x.response.unchunk,
                &v.filter, &v.edits, &x.up.address, x.rewrite != NULL,
            )
        else:
            compose_response(
                o, &w.answer, bytes, x.minor, x.conn.keep, x.response.unchunk
            )
        o.room += SCRATCH_BYTES
        if not o.full:
            return True
        if not out_grow(w, o):
            response_too_large(w)
            return False


cdef void response_too_large(conns_t* w) noexcept nogil:
    snprintf(w.why, sizeof(w.why), b"response head is too large")


# Send the head of a page in `o`, and what became of `rest` bytes behind it.
cdef STEP response_page(
    conns_t* w, exchange_t* x, out_t* o, const char* bytes, uint32_t rest
) noexcept nogil:
    cdef STEP step = rewrite_some(w, x, o, bytes, rest)
    cdef bint sent

    # Nothing was sent yet: a body that is wrong from its beginning is told.
    if step == STEP_ON:
        x.answering = 1
        sent = out_send(w, x, o)
        out_end(w, o)
        return STEP_ON if sent else STEP_CLIENT_FAILED
    out_end(w, o)
    return STEP_UPSTREAM_FAILED if step == STEP_FAULT else step


# Send a whole head and what came behind it.
cdef STEP response_head(
    conns_t* w, exchange_t* x, const char* bytes, uint32_t size
) noexcept nogil:
    cdef head_t* h = &w.answer
    cdef out_t o
    cdef ssize_t n = 0
    cdef uint32_t rest = size - h.size
    cdef bint sent

    # In order: the body's kind; what the head says of both connections; the head, with
    # the bytes of the body behind it, in one write; a body to unchunk by itself.
    body_begin(&x.response, h, False)
    if x.expects and not x.request.done and x.request.bytes == 0:
        # A final status instead of 100: the client may leave the body out, and the
        # upstream does not wait for it (RFC 9110 10.1.1).
        x.request_abandoned = 1
    x.status = h.status
    x.up.keep = h.keep_alive and h.body != BODY_TO_EOF and not x.up.doubtful
    if x.verdict.filter.pages:
        rewrite_begin(w, x, bytes)
    x.conn.keep = response_keeps(x, h)
    x.response.unchunk = h.body == BODY_CHUNKED and x.minor == 0
    if not response_compose(w, x, &o, bytes, True):
        return STEP_UPSTREAM_FAILED
    if x.rewrite != NULL:
        return response_page(w, x, &o, bytes + h.size, rest)
    if not x.response.unchunk:
        n = body_take(&x.response, bytes + h.size, rest)
        if n > 0:
            out_put(&o, bytes + h.size, n)
            check(not o.full)  # OUT_BYTES has room for both
    # From here on a failure resets the client.
    x.answering = 1
    sent = out_send(w, x, &o)
    out_end(w, &o)
    if not sent:
        return STEP_CLIENT_FAILED
    if x.response.unchunk:
        n = body_send(
            &w.c.mover, &x.response, &x.conn.to_down, &x.conn.down, bytes + h.size, rest
        )
    if n == -1:
        return STEP_UPSTREAM_FAILED
    if n < 0:
        return STEP_CLIENT_FAILED
    if n < rest:
        x.up.keep = 0  # bytes behind a response belong to no request
    return STEP_ON


# 1xx: passed on, but not to HTTP/1.0, which does not know them (RFC 9110 15.2).
cdef STEP response_informational(
    conns_t* w, exchange_t* x, const char* bytes, uint32_t size
) noexcept nogil:
    cdef out_t o
    cdef bint sent

    # Bounded, or an upstream could keep a client for ever without a response.
    x.informed += 1
    if w.answer.status == 100:
        x.expects = 0
    if not w.answer.keep_alive:
        x.up.doubtful = 1
    if x.informed > INFORMATIONAL_MOST:
        snprintf(w.why, sizeof(w.why), b"too many 1xx informational responses")
        return STEP_UPSTREAM_FAILED
    if x.minor > 0:
        if not response_compose(w, x, &o, bytes, False):
            return STEP_UPSTREAM_FAILED
        sent = out_send(w, x, &o)
        out_end(w, &o)
        if not sent:
            return STEP_CLIENT_FAILED
    return STEP_ON


cdef STEP response_upgraded(
    conns_t* w, exchange_t* x, const char* bytes, uint32_t size
) noexcept nogil:
    cdef out_t o
    cdef bint sent

    if not response_compose(w, x, &o, bytes, x.verdict.filter.upgraded):
        return STEP_UPSTREAM_FAILED
    out_put(&o, bytes + w.answer.size, size - w.answer.size)
    check(not o.full)
    x.status = 101
    x.answering = 1
    sent = out_send(w, x, &o)
    out_end(w, &o)
    return STEP_UPGRADED if sent else STEP_CLIENT_FAILED


# An upgrade was asked for, and the answer is not 101.
cdef STEP response_not_upgraded(conns_t* w, exchange_t* x) noexcept nogil:
    # CVE-2018-1002105: a proxy that took any answer for an upgrade let the client speak
    # to the upstream unchecked. Here both connections end; only an error is passed on.
    x.conn.keep = 0
    if w.answer.status >= 400:
        return STEP_ON
    x.not_upgraded = 1
    snprintf(
        w.why, sizeof(w.why), b"invalid upgrade response: status code %u",
        <unsigned int>w.answer.status,
    )
    return STEP_UPSTREAM_FAILED


# Do with a whole head what its status says. STEP_ON with `answering` not set: it was
# informational, and another one follows.
cdef STEP response_to(
    conns_t* w, exchange_t* x, const char* bytes, uint32_t size
) noexcept nogil:
    cdef STEP step
    cdef head_t* h = &w.answer

    if h.status == 101:
        if x.upgrade:
            return response_upgraded(w, x, bytes, size)
        snprintf(w.why, sizeof(w.why), b"101 without a request to upgrade")
        return STEP_UPSTREAM_FAILED
    if h.status < 200:
        return response_informational(w, x, bytes, size)
    if x.upgrade:
        step = response_not_upgraded(w, x)
        if step != STEP_ON:
            return step
    # Once for a request, or one that is always refused would go round for ever.
    if h.status == x.verdict.ask_on and not x.asked_on and (
        x.held > 0 or x.question != NULL
    ):
        x.refused = h.status
        return STEP_REFUSED
    return response_head(w, x, bytes, size)


# Read and parse until a final head was sent.
cdef STEP response_begin(conns_t* w, exchange_t* x) noexcept nogil:
    cdef upconn_t* u = x.up
    cdef const char* bytes = NULL
    cdef uint32_t size = 0
    cdef uint32_t used
    cdef int got
    cdef STEP result

    head_allow(&w.answer, u.head_bytes, u.head_lines)
    if x.passed:
        x.passed = 0
        bytes = u.input.bytes
        size = <uint32_t>u.input.used
    while not x.answering:
        # size > 0 behind a 1xx: the next head may be here already.
        if size == 0:
            if not u.link.end.readable:
                return STEP_WAIT
            got = answer_read(w, x, &bytes, &size)
            if got == -EAGAIN:
                return STEP_WAIT
            if got <= 0:
                return answer_missing(w, x, -got)
        got = head_parse_response(&w.answer, bytes, size, u.scanned, x.is_head)
        if got < 0:
            if fault_is_size(<FAULT>w.answer.fault):
                response_too_large(w)
            else:
                snprintf(w.why, sizeof(w.why), b"malformed HTTP response")
            return STEP_UPSTREAM_FAILED
        if got == 0:
            if not answer_hold(w, u, bytes, size):
                return STEP_NO_MEMORY
            size = 0
            continue
        u.scanned = 0  # for the next head
        dialler_answered(w.c, u.backend)
        if x.quota != NULL:
            meter_charge(w, x, w.answer.size)
        used = w.answer.size
        result = response_to(w, x, bytes, size)
        if result == STEP_REFUSED:
            # It waits for Python, and is parsed once more should it go to the client.
            if not answer_hold(w, u, bytes, size):
                return STEP_NO_MEMORY
            u.scanned = 0
            return result
        if result != STEP_ON or x.answering:
            answer_drop(w, u)
            return result
        bytes += used
        size -= used
        if u.input != NULL and not answer_shift(w, u, &bytes, size):
            return STEP_NO_MEMORY
    return STEP_ON


cdef STEP response_move(conns_t* w, exchange_t* x) noexcept nogil:
    cdef mover_t* m = &w.c.mover
    cdef spill_t* surplus = NULL
    cdef STEP step
    cdef int flushed

    # In order: the head, if it was not sent yet; what waits of a reply of our own or of
    # a response that is done; else the body.
    if not x.answering:
        if x.up == NULL:
            return STEP_WAIT
        step = response_begin(w, x)
        if step == STEP_UPSTREAM_FAILED and not x.answering:
            # The client has seen nothing: it gets a reply instead of a reset.
            upconn_leave(w, x, True)
            return exchange_fail(w, x, 502, w.why)
        if step != STEP_ON:
            return step
    if x.up == NULL or x.response.done:
        flushed = pending_flush(m, &x.conn.to_down, &x.conn.down)
        if flushed < 0:
            return STEP_CLIENT_FAILED
        return STEP_DONE if flushed == 1 else STEP_WAIT
    if x.rewrite != NULL:
        return rewrite_move(w, x)
    # A fault in the upstream's framing is the upstream's failure: the client is reset.
    step = body_move(
        m, &x.response, &x.up.link, &x.conn.down, &x.conn.to_down, &surplus
    )
    if surplus != NULL:
        x.up.keep = 0  # bytes behind a response belong to no request
        spill_put(m, surplus)
    return STEP_UPSTREAM_FAILED if step == STEP_FAULT else step
