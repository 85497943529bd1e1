"""Responses. The head goes on as soon as it is whole, never held back for a body; the
first bytes of the body that came with it travel in the same segment."""

from libc.errno cimport EAGAIN, ECONNRESET, EPIPE
from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf
from libc.string cimport strlen

from fastpath.base.linux.debug cimport check
from fastpath.base.linux.text cimport error_text
from fastpath.base.spill cimport SCRATCH_BYTES, mover_t, spill_of, spill_put, spill_t
from fastpath.http.carry cimport (
    CARRY,
    CARRY_DONE,
    CARRY_MORE,
    CARRY_NO_MEMORY,
    CARRY_TARGET,
    CARRY_WAIT,
    body_begin,
    body_carry,
    body_send,
    body_take,
    pending_flush,
    pending_send,
)
from fastpath.http.filter cimport filter_response
from fastpath.http.verdict cimport verdict_text
from fastpath.http.web cimport INFORMATIONAL_MOST, OUT_BYTES, server_t
from fastpath.http1.compose cimport (
    compose_reply,
    compose_response,
    compose_text,
    out_put,
    out_t,
)
from fastpath.http1.framing cimport BODY_CHUNKED, BODY_TO_EOF, head_t
from fastpath.http1.head cimport head_parse_response
from fastpath.tls.transport cimport transport_read, transport_why


cdef void out_begin(web_t* w, out_t* o) noexcept nogil:
    o.bytes = w.out
    o.room = OUT_BYTES
    o.size = 0
    o.full = False


cdef bint out_send(web_t* w, exchange_t* x, const out_t* o) noexcept nogil:
    return pending_send(&w.c.mover, &x.to_down, &x.down, o.bytes, o.size) == 0


# ---- Replies of our own.

cdef bint respond_text(
    web_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil:
    cdef out_t o

    out_begin(w, &o)
    compose_text(&o, status, text, x.minor, x.keep, x.is_head)
    x.status = status
    x.answering = 1
    x.response.bytes += 0 if x.is_head else strlen(text) + 1
    x.response.done = 1
    return out_send(w, x, &o)


cdef bint respond_verdict(web_t* w, exchange_t* x, const verdict_t* v) noexcept nogil:
    cdef out_t o

    out_begin(w, &o)
    x.status = v.status
    x.answering = 1
    x.response.bytes += 0 if x.is_head else v.body.size
    x.response.done = 1
    if v.head.size + v.body.size + 512 > OUT_BYTES:
        # The body goes out of the verdict itself: it is larger than our buffer.
        compose_reply(
            &o, verdict_text(v, v.head), v.head.size, b"", 0, x.minor, x.keep, True
        )
        if not out_send(w, x, &o):
            return False
        if x.is_head:
            return True
        return pending_send(
            &w.c.mover, &x.to_down, &x.down, v.bytes + v.body.at, v.body.size
        ) == 0
    compose_reply(
        &o, verdict_text(v, v.head), v.head.size, verdict_text(v, v.body), v.body.size,
        x.minor, x.keep, x.is_head,
    )
    return out_send(w, x, &o)


# ---- Responses of upstreams.

# The source ended or failed before a head was whole.
cdef RESPOND respond_headless(web_t* w, exchange_t* x, int error) noexcept nogil:
    cdef server_t* s = x.up

    if s.used and s.input == NULL and x.informed == 0 and (
        error == 0 or error == ECONNRESET or error == EPIPE
    ):
        return RESPOND_STALE
    if error == 0:
        snprintf(
            w.why, sizeof(w.why), b"%s",
            b"EOF" if s.input == NULL else b"unexpected EOF",
        )
    elif s.link.ssl != NULL and error != ECONNRESET:
        transport_why(&s.link, w.why, sizeof(w.why))
    else:
        error_text(error, w.why, sizeof(w.why))
    return RESPOND_FAILED


# Bytes of the head at hand: in scratch, or in the server's input if it came in pieces.
cdef int respond_read(
    web_t* w, exchange_t* x, const char** bytes, uint32_t* size
) noexcept nogil:
    cdef mover_t* m = &w.c.mover
    cdef server_t* s = x.up
    cdef ssize_t n
    cdef char* into = m.scratch
    cdef size_t room = SCRATCH_BYTES

    if s.input != NULL:  # never full here: its head would have been refused
        into = s.input.bytes + s.input.used
        room = SCRATCH_BYTES - s.input.used
    n = transport_read(&s.link, into, room)
    if n <= 0:
        return <int>n
    if s.input != NULL:
        s.input.used += n
        bytes[0] = s.input.bytes
        size[0] = <uint32_t>s.input.used
    else:
        bytes[0] = m.scratch
        size[0] = <uint32_t>n
    return 1


# A head that is not whole waits in the server's input.
cdef bint respond_hold(
    web_t* w, server_t* s, const char* bytes, uint32_t size
) noexcept nogil:
    if s.input == NULL:
        s.input = spill_of(&w.c.mover, bytes, size)
        if s.input == NULL:
            return False
    s.scanned = size
    return True


# Whether the client's connection stays after this response.
cdef bint respond_keeps(const exchange_t* x, const head_t* h) noexcept nogil:
    if not x.keep or h.body == BODY_TO_EOF:
        return False
    if not x.request.done and (x.deaf or not h.keep_alive):
        return False  # the rest of the request will be told to nobody
    # Without its framing, the end of a body is told by closing.
    return not (h.body == BODY_CHUNKED and x.minor == 0)


cdef inline void respond_compose(
    web_t* w, exchange_t* x, out_t* o, const char* bytes
) noexcept nogil:
    cdef const verdict_t* v = x.verdict

    if v.filter.any:
        filter_response(
            o, &w.head, bytes, x.minor, x.keep, x.response.unchunk, &v.filter,
            &v.edits, &x.up.address,
        )
    else:
        compose_response(o, &w.head, bytes, x.minor, x.keep, x.response.unchunk)


# Send a whole head and what came behind it.
cdef RESPOND respond_head(
    web_t* w, exchange_t* x, const char* bytes, uint32_t size
) noexcept nogil:
    cdef head_t* h = &w.head
    cdef out_t o
    cdef ssize_t n = 0
    cdef uint32_t rest = size - h.size

    body_begin(&x.response, h)
    if x.expects and not x.request.done and x.request.bytes == 0:
        x.deaf = 1  # it was not bidden to send the body, and need not
    x.keep = respond_keeps(x, h)
    x.response.unchunk = h.body == BODY_CHUNKED and x.minor == 0
    x.status = h.status
    x.up.keep = h.keep_alive and h.body != BODY_TO_EOF
    out_begin(w, &o)
    respond_compose(w, x, &o, bytes)
    if o.full:
        snprintf(w.why, sizeof(w.why), b"response head is too large")
        return RESPOND_FAILED
    if not x.response.unchunk:
        n = body_take(&x.response, bytes + h.size, rest)
        if n > 0:
            out_put(&o, bytes + h.size, n)
            check(not o.full)
    x.answering = 1
    if not out_send(w, x, &o):
        return RESPOND_CLIENT
    if x.response.unchunk:
        n = body_send(
            &w.c.mover, &x.response, &x.to_down, &x.down, bytes + h.size, rest
        )
    if n == -1:
        return RESPOND_BROKEN
    if n < 0:
        return RESPOND_CLIENT
    if n < rest:
        x.up.keep = 0  # who says more than the response is not to be trusted
    return RESPOND_MORE


# 1xx: passed on (not to HTTP/1.0, which does not know them); the real one follows.
cdef RESPOND respond_informational(
    web_t* w, exchange_t* x, const char* bytes, uint32_t size
) noexcept nogil:
    cdef out_t o

    x.informed += 1
    if w.head.status == 100:
        x.expects = 0
    if x.informed > INFORMATIONAL_MOST:
        snprintf(w.why, sizeof(w.why), b"too many 1xx informational responses")
        return RESPOND_FAILED
    if x.minor > 0:
        out_begin(w, &o)
        compose_response(&o, &w.head, bytes, x.minor, True, False)
        if o.full or not out_send(w, x, &o):
            return RESPOND_CLIENT
    return RESPOND_MORE


cdef RESPOND respond_upgraded(
    web_t* w, exchange_t* x, const char* bytes, uint32_t size
) noexcept nogil:
    cdef out_t o

    out_begin(w, &o)
    if x.verdict.filter.upgraded:
        respond_compose(w, x, &o, bytes)
    else:
        compose_response(&o, &w.head, bytes, x.minor, True, False)
    out_put(&o, bytes + w.head.size, size - w.head.size)
    x.status = 101
    x.answering = 1
    if o.full or not out_send(w, x, &o):
        return RESPOND_CLIENT
    return RESPOND_UPGRADED


# An upgrade was asked for, and the answer is no 101.
cdef RESPOND respond_not_upgraded(web_t* w, exchange_t* x) noexcept nogil:
    x.keep = 0   # CVE-2018-1002105: nothing more of this client reaches that upstream
    if w.head.status >= 400:
        return RESPOND_MORE
    snprintf(
        w.why, sizeof(w.why), b"invalid upgrade response: status code %u",
        <unsigned int>w.head.status,
    )
    return RESPOND_FAILED


# A head is whole: what is to be done with it?
cdef RESPOND respond_to(
    web_t* w, exchange_t* x, const char* bytes, uint32_t size
) noexcept nogil:
    cdef RESPOND verdict
    cdef head_t* h = &w.head

    if h.status == 101:
        if x.upgrade:
            return respond_upgraded(w, x, bytes, size)
        snprintf(w.why, sizeof(w.why), b"upgrade that nobody asked for")
        return RESPOND_FAILED
    if h.status < 200:
        return respond_informational(w, x, bytes, size)
    if x.upgrade:
        verdict = respond_not_upgraded(w, x)
        if verdict != RESPOND_MORE:
            return verdict
    if h.status == x.verdict.ask_on and not x.asked_on and x.held > 0:
        return RESPOND_ASK
    return respond_head(w, x, bytes, size)


# Read and parse until a final head was sent.
cdef RESPOND respond_begin(web_t* w, exchange_t* x) noexcept nogil:
    cdef server_t* s = x.up
    cdef const char* bytes = NULL
    cdef uint32_t size = 0
    cdef uint32_t used
    cdef int got
    cdef RESPOND result

    while not x.answering:
        if size == 0:
            if not s.link.readable:
                return RESPOND_WAIT
            got = respond_read(w, x, &bytes, &size)
            if got == -EAGAIN:
                return RESPOND_WAIT
            if got <= 0:
                return respond_headless(w, x, -got)
        w.head_of = NULL
        got = head_parse_response(&w.head, bytes, size, s.scanned, x.is_head)
        if got < 0:
            snprintf(w.why, sizeof(w.why), b"malformed HTTP response")
            return RESPOND_FAILED
        if got == 0:
            if not respond_hold(w, s, bytes, size):
                return RESPOND_NO_MEMORY
            size = 0
            continue
        s.scanned = 0
        used = w.head.size
        result = respond_to(w, x, bytes, size)
        if result != RESPOND_MORE or x.answering:
            respond_drop_input(w, s)
            return result
        # It was informational: go on behind it.
        bytes += used
        size -= used
        if s.input != NULL and not respond_shift(w, s, &bytes, size):
            return RESPOND_NO_MEMORY
    return RESPOND_MORE


cdef void respond_drop_input(web_t* w, server_t* s) noexcept nogil:
    if s.input != NULL:
        spill_put(&w.c.mover, s.input)
        s.input = NULL


# What stands behind a 1xx moves to the front of its buffer.
cdef bint respond_shift(
    web_t* w, server_t* s, const char** bytes, uint32_t size
) noexcept nogil:
    cdef spill_t* rest = spill_of(&w.c.mover, bytes[0], size)

    if rest == NULL:
        return False
    spill_put(&w.c.mover, s.input)
    s.input = rest
    bytes[0] = rest.bytes
    return True


cdef RESPOND respond_run(web_t* w, exchange_t* x) noexcept nogil:
    cdef mover_t* m = &w.c.mover
    cdef spill_t* surplus = NULL
    cdef RESPOND begun
    cdef CARRY carry
    cdef int flushed

    if not x.answering:
        begun = respond_begin(w, x)
        if begun != RESPOND_MORE:
            return begun
    if x.up == NULL or x.response.done:
        flushed = pending_flush(m, &x.to_down, &x.down)
        if flushed < 0:
            return RESPOND_CLIENT
        return RESPOND_DONE if flushed == 1 else RESPOND_WAIT
    carry = body_carry(m, &x.response, &x.up.link, &x.down, &x.to_down, &surplus)
    if surplus != NULL:
        x.up.keep = 0
        spill_put(m, surplus)
    if carry == CARRY_WAIT:
        return RESPOND_WAIT
    if carry == CARRY_MORE:
        return RESPOND_MORE
    if carry == CARRY_DONE:
        return RESPOND_DONE
    if carry == CARRY_TARGET:
        return RESPOND_CLIENT
    return RESPOND_NO_MEMORY if carry == CARRY_NO_MEMORY else RESPOND_BROKEN
