# What the worker tells HTTP.
from libc.stdint cimport uint32_t
from fastpath.base.addr cimport addr_t
from fastpath.base.mailbox cimport letter_t
from fastpath.http.state cimport conn_t, conns_t, upconn_t

# A client of an HTTP vip; the fd is ours now.
cdef void conn_open(
    conns_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil

# The poller reported `events` of a client or of an upstream connection.
cdef void conn_event(
    conns_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil
cdef void upconn_event(
    conns_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil

# A timer of ours fired.
cdef void conn_timer(conns_t* w, conn_t* conn) noexcept nogil
cdef void upconn_timer(conns_t* w, upconn_t* u) noexcept nogil

# Python answered; the letter's load is ours now.
cdef void conn_answer(conns_t* w, const letter_t* letter) noexcept nogil

# Go on with a client that had its turn and was not finished: it comes out of the run
# queue, and may have been dropped meanwhile.
cdef void conn_run(conns_t* w, conn_t* conn) noexcept nogil

# The backend in `slot` is dead: let go of its connections.
cdef void conns_reset_backend(conns_t* w, uint32_t slot) noexcept nogil
