# Which TLS connections of a worker keep OpenSSL's buffers, some 83 KB each, between
# records: those that were used lately, as many as a number of bytes allows. All others
# hold none.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.tls.openssl cimport SSL

cdef enum:
    BUFFERS_BYTES = 83000       # of one connection: 66,560 and what a record takes
    BUFFERS_AGE_MS = 5000       # unused for so long, or twice that, they are freed

cdef struct place_t:
    SSL*     ssl                # borrowed; NULL = a free place
    uint32_t next_free          # place + 1; 0 = the last one
    uint8_t  used               # since the last look

cdef struct buffers_t:
    place_t* places             # owned; `room` of them
    uint32_t room
    uint32_t most               # places that the bytes allow
    uint32_t free               # the first one + 1; 0 = none
    uint32_t next               # the place that is looked at next for one to give away
    uint64_t aged_ms            # when all were looked at

# `bytes` that all of them together may hold.
cdef void buffers_init(buffers_t* b, uint64_t bytes) noexcept nogil

# Behind the last buffers_leave.
cdef void buffers_fini(buffers_t* b) noexcept nogil

cdef inline bint buffers_held(
    buffers_t* b, const SSL* ssl, uint32_t place
) noexcept nogil:
    if place >= b.room or b.places[place].ssl != ssl:
        return False
    b.places[place].used = 1
    return True

# `ssl` is about to read or write: it keeps its buffers from now on, at `place`, if need
# be instead of the one that has kept them for longest.
cdef void buffers_keep(buffers_t* b, SSL* ssl, uint32_t* place) noexcept nogil

# `ssl` is about to be freed.
cdef void buffers_leave(buffers_t* b, const SSL* ssl, uint32_t place) noexcept nogil

# Take the buffers of those that did not use them since the last time.
cdef void buffers_age(buffers_t* b, uint64_t now_ms) noexcept nogil
