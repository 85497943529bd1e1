# The bytes of a response's head while it comes.
from libc.stdint cimport uint32_t
from fastpath.http.state cimport STEP, conns_t, exchange_t, upconn_t

# Read more of it, at most SCRATCH_BYTES: `bytes` is all of the head that is here then,
# `size` of them. 1; 0 = the upstream has ended its side; or -errno.
cdef int answer_read(
    conns_t* w, exchange_t* x, const char** bytes, uint32_t* size
) noexcept nogil

# The upstream ended (0) or failed before a head was whole: STEP_STALE, or
# STEP_UPSTREAM_FAILED with the text in conns_t.why.
cdef STEP answer_missing(conns_t* w, exchange_t* x, int error) noexcept nogil

# Keep a head that is not whole yet. False = no memory.
cdef bint answer_hold(
    conns_t* w, upconn_t* u, const char* bytes, uint32_t size
) noexcept nogil

# What stands behind an interim response, at most SCRATCH_BYTES, moves to the front of a
# buffer. False = no memory.
cdef bint answer_shift(
    conns_t* w, upconn_t* u, const char** bytes, uint32_t size
) noexcept nogil
cdef void answer_drop(conns_t* w, upconn_t* u) noexcept nogil
