"""Reading requests: as many bytes as there are, one head at a time."""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc
from libc.string cimport memcmp, memcpy, memmove, memset, strlen

from fastpath.base.linux.clock cimport clock_us
from fastpath.base.linux.socket cimport MSG_NOSIGNAL, recv, send
from fastpath.base.spill cimport SCRATCH_BYTES, spill_get, spill_t
from fastpath.base.stats cimport (
    DROP_CLOSED,
    DROP_RESET_BY_CLIENT,
    DROP_TLS_HANDSHAKE,
    VERB,
    VERB_DELETE,
    VERB_GET,
    VERB_HEAD,
    VERB_OPTIONS,
    VERB_OTHER,
    VERB_PATCH,
    VERB_POST,
    VERB_PUT,
    web_stats,
)
from fastpath.http.body cimport body_begin, body_take
from fastpath.http.conn cimport (
    STEP,
    STEP_GONE,
    STEP_ON,
    STEP_WAIT,
    exchange_drop,
    exchange_idle,
    exchange_say,
    exchange_until,
    http_of,
    input_bytes,
    input_drop,
)
from fastpath.http.decide cimport exchange_decide
from fastpath.http.state cimport (
    CONN_HEAD,
    CONN_IDLE,
    RECORD_METHOD,
    RECORD_PATH,
    conns_t,
    exchange_t,
    record_t,
)
from fastpath.http1.framing cimport FAULT, fault_status, fault_text, head_t
from fastpath.http1.head cimport head_parse_request
from fastpath.table.table cimport http_t
from fastpath.tls.transport cimport (
    transport_handshake,
    transport_met_http,
    transport_read,
    transport_resumed,
)


# As Go's server says it, to those who forgot the s of https.
cdef const char* NO_TLS = (
    b"HTTP/1.0 400 Bad Request\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)


cdef STEP exchange_handshake(conns_t* w, exchange_t* x) noexcept nogil:
    cdef int done = transport_handshake(&x.down)

    if done == 1:
        if transport_resumed(&x.down):
            web_stats(&w.c.stats, x.vip.slot).resumed += 1
        exchange_idle(w, x)
        return STEP_ON
    if done == -EAGAIN:
        return STEP_WAIT
    if transport_met_http(&x.down):
        send(x.down.end.fd, NO_TLS, strlen(NO_TLS), MSG_NOSIGNAL)
        # What OpenSSL left unread would make a reset of the close, and unsay this.
        recv(x.down.end.fd, w.c.mover.scratch, SCRATCH_BYTES, 0)
    exchange_drop(
        w, x, DROP_RESET_BY_CLIENT if x.down.eof else DROP_TLS_HANDSHAKE
    )
    return STEP_GONE


# Read more of a head. 1 = got some, 0 = none now, -1 = ended or failed.
cdef int head_read(conns_t* w, exchange_t* x) noexcept nogil:
    cdef spill_t* s
    cdef ssize_t n
    cdef size_t room

    if not x.down.end.readable:
        return 0
    if x.input == NULL:
        x.input = spill_get(&w.c.mover)
        if x.input == NULL:
            return -1
    s = x.input
    if s.first > 0 and s.first + s.used > SCRATCH_BYTES // 2:
        memmove(s.bytes, s.bytes + s.first, s.used)
        s.first = 0
    room = SCRATCH_BYTES - s.first - s.used
    n = transport_read(&x.down, s.bytes + s.first + s.used, room)
    if n == -EAGAIN:
        return 0
    if n <= 0:
        return -1
    s.used += <uint32_t>n
    return 1


# Refuse what is no request. The connection cannot be trusted any more.
cdef STEP head_refuse(conns_t* w, exchange_t* x) noexcept nogil:
    cdef int fault = w.head.fault

    x.began_us = clock_us()
    x.verb = VERB_OTHER
    x.minor = 1
    x.is_head = 0
    memset(&x.request, 0, sizeof(x.request))  # not done: who knows what still comes?
    return exchange_say(w, x, fault_status(<FAULT>fault), fault_text(<FAULT>fault))


cdef STEP exchange_head(conns_t* w, exchange_t* x) noexcept nogil:
    cdef http_t* http
    cdef int got = 0

    if x.input != NULL and x.input.used > x.scanned:
        got = head_parse_request(
            &w.head, input_bytes(x), x.input.used, x.scanned
        )
        if got < 0:
            return head_refuse(w, x)
        if got == 1:
            return exchange_begin(w, x)
        x.scanned = x.input.used
        if x.state == CONN_IDLE:
            x.state = CONN_HEAD
            http = http_of(w, x)
            exchange_until(w, x, http.header_ms if http != NULL else 1)
    got = head_read(w, x)
    if got > 0:
        return STEP_ON
    if got < 0:
        exchange_drop(
            w, x, DROP_RESET_BY_CLIENT if x.state == CONN_HEAD else DROP_CLOSED
        )
        return STEP_GONE
    if x.input != NULL and x.input.used == 0:
        input_drop(w, x)
    return STEP_WAIT


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


cdef inline uint32_t min_u32(uint32_t a, uint32_t b) noexcept nogil:
    return a if a < b else b


# Remember what the access log will want to know of this request.
cdef void request_record(conns_t* w, exchange_t* x) noexcept nogil:
    cdef http_t* http = http_of(w, x)
    cdef const char* bytes = input_bytes(x)
    cdef record_t* r

    if http == NULL or not http.log:
        return
    r = <record_t*>calloc(1, sizeof(record_t))
    if r == NULL:
        return
    r.vip = x.vip.slot
    r.client = x.client
    r.method_size = min_u32(w.head.method.size, RECORD_METHOD)
    r.path_size = min_u32(w.head.path.size, RECORD_PATH)
    memcpy(r.text, bytes + w.head.method.at, r.method_size)
    memcpy(r.text + r.method_size, bytes + w.head.path.at, r.path_size)
    x.record = r


# A head is whole: w.head, in the input. Find out what is to be done with it.
cdef STEP exchange_begin(conns_t* w, exchange_t* x) noexcept nogil:
    cdef head_t* h = &w.head
    cdef char* bytes = input_bytes(x)
    cdef uint32_t rest = x.input.used - h.size

    w.head_of = x
    w.c.stats.heads += 1
    x.began_us = clock_us()
    x.verb = verb_of(bytes, h)
    x.minor = h.minor
    x.keep = h.keep_alive and not x.retiring
    x.is_head = h.is_head
    x.expects = h.expects
    x.idempotent = x.verb != VERB_POST and x.verb != VERB_PATCH and (
        x.verb != VERB_OTHER
    )
    memset(&x.response, 0, sizeof(x.response))
    body_begin(&x.request, h)
    x.held = h.size
    x.deadline_ms = 0
    if body_take(&x.request, bytes + h.size, rest) < 0:
        w.head.fault = x.request.chunks.fault
        return head_refuse(w, x)
    x.held += <uint32_t>x.request.bytes
    request_record(w, x)
    if h.method.size == 7 and memcmp(bytes + h.method.at, b"CONNECT", 7) == 0:
        x.keep = 0  # what follows is not meant for us
        return exchange_say(w, x, 405, b"CONNECT is not served here")
    return exchange_decide(w, x, 0)
