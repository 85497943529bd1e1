# Clients that speak HTTP/1.1, as the worker sees them.
from libc.stdint cimport uint32_t
from fastpath.base.addr cimport addr_t
from fastpath.base.mailbox cimport letter_t
from fastpath.base.timer cimport timer_t
from fastpath.http.state cimport conns_t

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
cdef void http_timer(conns_t* w, timer_t* t) noexcept nogil

# Python answered; the letter's load is ours now.
cdef void http_answer(conns_t* w, const letter_t* letter) noexcept nogil

# Go on with exchanges that had their turn and were not finished.
cdef void http_run(conns_t* w) noexcept nogil

# The backend in `slot` is dead: let go of its connections.
cdef void http_reset_backend(conns_t* w, uint32_t slot) noexcept nogil
