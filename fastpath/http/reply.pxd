# Replies of our own, and the buffer that all heads for the client are written to.
from libc.stdint cimport uint16_t
from fastpath.http.state cimport STEP, conns_t, exchange_t
from fastpath.http1.compose cimport out_t

# Begin a head in the worker's buffer; send it. False = the client's socket failed.
cdef void out_begin(conns_t* w, out_t* o) noexcept nogil
cdef bint out_send(conns_t* w, exchange_t* x, const out_t* o) noexcept nogil

# Begin anew with twice the room, in a buffer of its own, which out_end frees. False =
# it would be too large, or no memory.
cdef bint out_grow(conns_t* w, out_t* o) noexcept nogil
cdef void out_end(conns_t* w, out_t* o) noexcept nogil

# Each begins a reply; what the client still sends of its request is not wanted.
# STEP_ANSWERED or STEP_CLIENT_FAILED.
cdef STEP exchange_say(
    conns_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil

# The reply of x.verdict.
cdef STEP exchange_reply(conns_t* w, exchange_t* x) noexcept nogil

# In the words of the vip, if it has some for that: its quota has no place for it; the
# client's certificate is trusted no more.
cdef STEP exchange_limit(conns_t* w, exchange_t* x) noexcept nogil
cdef STEP exchange_distrust(conns_t* w, exchange_t* x) noexcept nogil

# The upstream failed before it answered; the vip may want another status for that.
cdef STEP exchange_fail(
    conns_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil
