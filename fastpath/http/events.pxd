# Clients that speak HTTP/1.1, as the worker sees them.
from libc.stdint cimport uint32_t
from fastpath.base.addr cimport addr_t
from fastpath.base.mailbox cimport letter_t
from fastpath.http.state cimport conns_t, exchange_t, upconn_t

# A client of an HTTP vip; the fd is ours now.
cdef void http_open(
    conns_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil

# The poller reported `events` of a client or of an upstream connection.
cdef void http_conn_event(
    conns_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil
cdef void http_upconn_event(
    conns_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil

# A timer of ours fired.
cdef void conn_timer(conns_t* w, exchange_t* x) noexcept nogil
cdef void upconn_timer(conns_t* w, upconn_t* s) noexcept nogil

# Python answered; the letter's load is ours now.
cdef void http_answer(conns_t* w, const letter_t* letter) noexcept nogil

# Go on with an exchange that had its turn and was not finished: it comes out of the run
# queue, and may have been dropped meanwhile.
cdef void conn_run(conns_t* w, exchange_t* x) noexcept nogil

# The backend in `slot` is dead: let go of its connections.
cdef void http_reset_backend(conns_t* w, uint32_t slot) noexcept nogil
