"""Counters and records of exchanges. A record travels to Python as the load of a
letter; one that finds no room is counted instead."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastpath.base.linux.clock cimport clock_us
from fastpath.base.mailbox cimport LETTER_RECORD, letter_t, mailbox_depth, mailbox_push
from fastpath.base.stats cimport VERB, http_count, http_stats
from fastpath.http.state cimport (
    RECORDS_MOST,
    RECORD_ABSENT,
    RECORD_HEADER,
    RECORD_METHOD,
    RECORD_PATH,
    http_of,
    input_bytes,
    record_t,
)
from fastpath.http1.field cimport span_is, span_t
from fastpath.http1.framing cimport head_t
from fastpath.table.table cimport LOGGED_MOST, http_t, part_t

cdef enum:
    WORKER_SHIFT = 48        # of an id: no worker counts so far


cdef inline uint32_t min_u32(uint32_t a, uint32_t b) noexcept nogil:
    return a if a < b else b


cdef size_t record_bytes(const record_t* r) noexcept nogil:
    cdef size_t bytes = sizeof(record_t) + r.method_size + r.path_size + r.query_size
    cdef uint32_t i

    for i in range(r.header_count):
        if r.header_sizes[i] != RECORD_ABSENT:
            bytes += r.header_sizes[i]
    return bytes


# Value of the first line of a header, as a log has it; size 0 and False = no line.
cdef bint line_of(
    const head_t* h, const char* bytes, const part_t* name, span_t* value
) noexcept nogil:
    cdef uint32_t i

    for i in range(h.count):
        if h.headers[i].name.size == name.size and (
            span_is(bytes, h.headers[i].name, name.name)
        ):
            value.at = h.headers[i].value.at
            value.size = min_u32(h.headers[i].value.size, RECORD_HEADER)
            return True
    return False


# Sizes of all that `r` will have, and where the headers are.
cdef void record_measure(
    record_t* r, const http_t* http, const head_t* h, const char* bytes, span_t* lines
) noexcept nogil:
    cdef uint32_t most = http.log_target if http.log_target > 0 else RECORD_PATH
    cdef uint32_t i

    r.method_size = min_u32(h.method.size, RECORD_METHOD)
    r.path_size = min_u32(h.path.size, most)
    r.is_cut = r.path_size < h.path.size
    if http.log_target > 0:
        r.query_size = min_u32(h.query.size, most - r.path_size)
        r.is_cut |= r.query_size < h.query.size
    r.header_count = http.logged_count
    for i in range(r.header_count):
        r.header_sizes[i] = RECORD_ABSENT
        if line_of(h, bytes, &http.logged[i], &lines[i]):
            r.header_sizes[i] = <uint16_t>lines[i].size


cdef inline char* text_put(
    char* into, const char* bytes, uint32_t at, uint32_t size
) noexcept nogil:
    memcpy(into, bytes + at, size)
    return into + size


cdef void record_begin(conns_t* w, exchange_t* x) noexcept nogil:
    cdef http_t* http = http_of(w, x.conn)
    cdef const char* bytes = input_bytes(x.conn)
    cdef const head_t* h = x.head
    cdef span_t lines[LOGGED_MOST]
    cdef record_t found
    cdef record_t* r
    cdef char* into
    cdef uint32_t i

    if http == NULL or not http.log:
        return
    # Copied now: the head is given back before the exchange ends, and the bytes that it
    # was parsed from are, too. Without memory the request goes on, unrecorded.
    memset(&found, 0, sizeof(found))
    record_measure(&found, http, h, bytes, lines)
    r = <record_t*>malloc(record_bytes(&found))
    if r == NULL:
        http_stats(&w.c.stats, x.conn.vip.slot).unrecorded += 1
        return
    r[0] = found
    w.recorded += 1
    r.id = <uint64_t>w.c.worker << WORKER_SHIFT | w.recorded
    r.vip = x.conn.vip.slot
    r.client = x.conn.client
    r.began_us = x.began_us
    into = text_put(r.text, bytes, h.method.at, r.method_size)
    into = text_put(into, bytes, h.path.at, r.path_size)
    into = text_put(into, bytes, h.query.at, r.query_size)
    for i in range(r.header_count):
        if r.header_sizes[i] != RECORD_ABSENT:
            into = text_put(into, bytes, lines[i].at, r.header_sizes[i])
    x.record = r


# Hand `r` to Python, or free it if there is no room. NULL = there was no memory.
cdef void record_push(conns_t* w, exchange_t* x, record_t* r) noexcept nogil:
    cdef letter_t letter

    if r != NULL:
        r.status = x.status
        r.took_us = clock_us() - r.began_us
        # The halves of a tunnel between plain sockets; else they are zeroed.
        r.bytes[0] = x.request.bytes + x.half[0].bytes
        r.bytes[1] = x.response.bytes + x.half[1].bytes
        memset(&letter, 0, sizeof(letter))
        letter.kind = LETTER_RECORD
        letter.fd = -1
        letter.load = r
        # Questions use the same mailbox, and clients wait for their answers: records
        # get half of its room.
        if mailbox_depth(w.questions) <= RECORDS_MOST and (
            mailbox_push(w.questions, &letter) == 0
        ):
            return
    http_stats(&w.c.stats, x.conn.vip.slot).unrecorded += 1
    free(r)


cdef void record_end(conns_t* w, exchange_t* x) noexcept nogil:
    cdef record_t* r = x.record

    if r != NULL:
        x.record = NULL
        r.is_over = 1
        record_push(w, x, r)


# Tell of a tunnel that has begun; its record stays for its end.
cdef void record_go_on(conns_t* w, exchange_t* x) noexcept nogil:
    cdef record_t* copy
    cdef size_t bytes

    if x.record == NULL:
        return
    bytes = record_bytes(x.record)
    copy = <record_t*>malloc(bytes)
    if copy != NULL:
        memcpy(copy, x.record, bytes)
    record_push(w, x, copy)


cdef void exchange_count(conns_t* w, exchange_t* x, bint goes_on) noexcept nogil:
    # One that was cut off before its response has status 0: time and bytes count all
    # the same.
    if goes_on:
        record_go_on(w, x)
    else:
        record_end(w, x)
    http_count(
        &w.c.stats, x.conn.vip.slot, <VERB>x.verb, x.status, clock_us() - x.began_us,
        x.request.bytes, x.response.bytes,
    )
    x.began_us = 0  # a tunnel counts at its beginning, and is dropped later
