"""Counters and records of exchanges. A record travels to Python as the load of a
letter; one that finds no room is counted instead."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc
from libc.string cimport memcpy, memset

from fastpath.base.linux.clock cimport clock_us
from fastpath.base.mailbox cimport LETTER_RECORD, letter_t, mailbox_depth, mailbox_push
from fastpath.base.stats cimport VERB, http_count, http_stats
from fastpath.http.state cimport (
    RECORDS_MOST,
    RECORD_METHOD,
    RECORD_PATH,
    http_of,
    input_bytes,
    record_t,
)
from fastpath.table.table cimport http_t


cdef inline uint32_t min_u32(uint32_t a, uint32_t b) noexcept nogil:
    return a if a < b else b


cdef void record_begin(conns_t* w, exchange_t* x) noexcept nogil:
    cdef http_t* http = http_of(w, x.conn)
    cdef const char* bytes = input_bytes(x.conn)
    cdef record_t* r

    if http == NULL or not http.log:
        return
    # Copied now: the head is given back before the exchange ends, and the bytes that it
    # was parsed from are, too. Without memory the request goes on, unrecorded.
    r = <record_t*>calloc(1, sizeof(record_t))
    if r == NULL:
        return
    r.vip = x.conn.vip.slot
    r.client = x.conn.client
    r.method_size = min_u32(x.head.method.size, RECORD_METHOD)
    r.path_size = min_u32(x.head.path.size, RECORD_PATH)
    memcpy(r.text, bytes + x.head.method.at, r.method_size)
    memcpy(r.text + r.method_size, bytes + x.head.path.at, r.path_size)
    x.record = r


# Hand the record to Python, if one is wanted and there is room.
cdef void record_send(conns_t* w, exchange_t* x) noexcept nogil:
    cdef letter_t letter

    if x.record == NULL:
        return
    x.record.status = x.status
    x.record.took_us = clock_us() - x.began_us
    x.record.bytes[0] = x.request.bytes
    x.record.bytes[1] = x.response.bytes
    memset(&letter, 0, sizeof(letter))
    letter.kind = LETTER_RECORD
    letter.fd = -1
    letter.load = x.record
    # Questions use the same mailbox, and clients wait for their answers: records get
    # half of its room.
    if mailbox_depth(w.questions) > RECORDS_MOST or (
        mailbox_push(w.questions, &letter) < 0
    ):
        http_stats(&w.c.stats, x.conn.vip.slot).unrecorded += 1
        return  # freed with the exchange
    x.record = NULL  # the letter owns it now


cdef void exchange_count(conns_t* w, exchange_t* x) noexcept nogil:
    # One that was cut off before its response has status 0: time and bytes count all
    # the same.
    record_send(w, x)
    http_count(
        &w.c.stats, x.conn.vip.slot, <VERB>x.verb, x.status, clock_us() - x.began_us,
        x.request.bytes, x.response.bytes,
    )
    x.began_us = 0  # a tunnel counts at its beginning, and is dropped later
