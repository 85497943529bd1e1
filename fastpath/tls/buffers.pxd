# Which TLS connections of a worker keep OpenSSL's buffers, some 83 KB each, between
# records: those that were used last. All others hold none.
from libc.stdint cimport uint8_t, uint32_t

from fastpath.tls.openssl cimport SSL

cdef enum:
    BUFFERS_MOST = 64

cdef struct buffers_t:
    SSL*     holders[BUFFERS_MOST]  # borrowed; NULL = a free place
    uint32_t next                   # the place that is given away next

cdef inline bint buffers_held(
    const buffers_t* b, const SSL* ssl, uint8_t place
) noexcept nogil:
    return b.holders[place] == ssl

# `ssl` is about to read or write: it keeps its buffers from now on, at `place`, and the
# connection that has had that place loses its own.
cdef void buffers_keep(buffers_t* b, SSL* ssl, uint8_t* place) noexcept nogil

# `ssl` is about to be freed.
cdef void buffers_leave(buffers_t* b, const SSL* ssl, uint8_t place) noexcept nogil
