"""The bytes of a response's head while it comes.

A usual one is whole in the scratch buffer with its first read, and nothing is kept. One
that comes in pieces waits in the upstream connection's input: a spill, or a buffer of
its own if it is larger than that, freed with it.
"""

from libc.errno cimport ECONNRESET, ENOMEM, EPIPE, EPROTO
from libc.stdio cimport snprintf

from fastpath.base.linux.debug cimport check
from fastpath.base.linux.text cimport error_text
from fastpath.base.spill cimport (
    SCRATCH_BYTES,
    mover_t,
    spill_grow,
    spill_of,
    spill_put,
    spill_t,
)
from fastpath.http.state cimport STEP_LOST, STEP_UPSTREAM_FAILED
from fastpath.tls.transport cimport transport_read, transport_why


# Whether the connection has ended and not one byte of a response came: by a FIN, a
# reset, or TLS that failed, as it does if a server of TLS 1.3 refuses our certificate
# once we have sent a request. A server that is slow has not ended anything.
cdef inline bint answer_lost(const exchange_t* x, int error) noexcept nogil:
    if x.up.input != NULL or x.informed > 0:
        return False
    if error == EPROTO:
        return x.up.link.ssl != NULL
    return error == 0 or error == ECONNRESET or error == EPIPE


# The source ended or failed before a head was whole.
cdef STEP answer_missing(conns_t* w, exchange_t* x, int error) noexcept nogil:
    cdef upconn_t* u = x.up

    if error == 0:
        snprintf(
            w.why, sizeof(w.why), b"%s",
            b"EOF" if u.input == NULL else b"unexpected EOF",
        )
    elif u.link.ssl != NULL and error != ECONNRESET:
        transport_why(&u.link, w.why, sizeof(w.why))
    else:
        error_text(error, w.why, sizeof(w.why))
    return STEP_LOST if answer_lost(x, error) else STEP_UPSTREAM_FAILED


# A head that is larger than a spill has a buffer of its own. It is less than the limit
# here, or it would have been refused.
cdef bint more_room(mover_t* m, upconn_t* u) noexcept nogil:
    cdef uint32_t room = 2 * u.input.room
    cdef spill_t* grown

    check(u.input.room < u.head_bytes)
    grown = spill_grow(m, u.input, room if room < u.head_bytes else u.head_bytes)
    if grown == NULL:
        return False
    u.input = grown
    return True


# Bytes of the head at hand: in scratch, or in the server's input if it came in pieces.
cdef int answer_read(
    conns_t* w, exchange_t* x, const char** bytes, uint32_t* size
) noexcept nogil:
    cdef mover_t* m = &w.c.mover
    cdef upconn_t* u = x.up
    cdef ssize_t n
    cdef char* into = m.scratch
    cdef size_t room = SCRATCH_BYTES

    if u.input != NULL:
        if u.input.used == u.input.room and not more_room(m, u):
            return -ENOMEM
        into = u.input.bytes + u.input.used
        # What follows a head was read with its end: scratch bytes of it at most.
        if room > u.input.room - u.input.used:
            room = u.input.room - u.input.used
    n = transport_read(&u.link, into, room)
    if n <= 0:
        return <int>n
    if u.input != NULL:
        u.input.used += n
        bytes[0] = u.input.bytes
        size[0] = <uint32_t>u.input.used
    else:
        bytes[0] = m.scratch
        size[0] = <uint32_t>n
    return 1


# A head that is not whole waits in the server's input.
cdef bint answer_hold(
    conns_t* w, upconn_t* u, const char* bytes, uint32_t size
) noexcept nogil:
    if u.input == NULL:
        u.input = spill_of(&w.c.mover, bytes, size)
        if u.input == NULL:
            return False
    u.scanned = size
    return True


cdef void answer_drop(conns_t* w, upconn_t* u) noexcept nogil:
    if u.input != NULL:
        spill_put(&w.c.mover, u.input)
        u.input = NULL


# What stands behind a 1xx moves to the front of its buffer.
cdef bint answer_shift(
    conns_t* w, upconn_t* u, const char** bytes, uint32_t size
) noexcept nogil:
    cdef spill_t* rest = spill_of(&w.c.mover, bytes[0], size)

    if rest == NULL:
        return False
    spill_put(&w.c.mover, u.input)
    u.input = rest
    bytes[0] = rest.bytes
    return True
