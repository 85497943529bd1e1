# The way back: heads of responses, replies of our own.
from libc.stdint cimport uint16_t
from fastpath.http.state cimport conns_t, exchange_t
from fastpath.http.verdict cimport verdict_t

cdef enum RESPOND:
    RESPOND_WAIT          # for the upstream, or for room towards the client
    RESPOND_MORE          # had its turn, would go on
    RESPOND_DONE          # all of the response was taken by the client's socket
    RESPOND_UPGRADED      # 101 was sent: what follows is not HTTP
    RESPOND_ASK           # its status is one that the verdict wants Python to see
    RESPOND_STALE         # a kept connection had ended; no byte of a response came
    RESPOND_FAILED        # no response: w.why
    RESPOND_BROKEN        # it broke off after its head was sent
    RESPOND_CLIENT        # the client's socket failed
    RESPOND_NO_MEMORY

# Move the response on.
cdef RESPOND respond_run(conns_t* w, exchange_t* x) noexcept nogil

# Begin a reply of our own instead. False = the client is gone.
cdef bint respond_text(
    conns_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil
cdef bint respond_verdict(conns_t* w, exchange_t* x, const verdict_t* v) noexcept nogil
