# Reading requests.
from fastpath.http.conn cimport STEP
from fastpath.http.state cimport conns_t, exchange_t

# TLS with the client, before anything else.
cdef STEP exchange_handshake(conns_t* w, exchange_t* x) noexcept nogil

# Read and parse; when a head is whole, begin its exchange.
cdef STEP exchange_head(conns_t* w, exchange_t* x) noexcept nogil
