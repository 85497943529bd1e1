# The way up: heads of requests, and bodies behind them.
from fastpath.http.state cimport STEP, conn_t, conns_t, exchange_t

# Read and parse; when a head is whole, begin its exchange: STEP_PARSED, or a reply that
# refuses it. STEP_PARTIAL: some of a head has come.
cdef STEP request_read(conns_t* w, conn_t* conn) noexcept nogil

# Have x.head parsed: it was given back when the request was parked, or sent. False = no
# memory. The request must still be held.
cdef bint request_parsed(conns_t* w, exchange_t* x) noexcept nogil

# The head, and what of the body is at hand, in one write: STEP_SENT.
cdef STEP request_send(conns_t* w, exchange_t* x) noexcept nogil

# Move the body on. STEP_WAIT also when all of it was sent.
cdef STEP request_move(conns_t* w, exchange_t* x) noexcept nogil

# An idle connection had ended: STEP_FORWARD, if the request may be sent once more.
cdef STEP request_replay(conns_t* w, exchange_t* x) noexcept nogil

# The client has seen a response: the request will not be sent again.
cdef void request_forget(conns_t* w, exchange_t* x) noexcept nogil
