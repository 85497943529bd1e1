# Reading requests.
from fastpath.http.client cimport STEP
from fastpath.http.web cimport exchange_t, web_t

# TLS with the client, before anything else.
cdef STEP exchange_handshake(web_t* w, exchange_t* x) noexcept nogil

# Read and parse; when a head is whole, begin its exchange.
cdef STEP exchange_head(web_t* w, exchange_t* x) noexcept nogil
