# Clients that speak HTTP/1.1, as the worker sees them.
from libc.stdint cimport uint32_t
from fastpath.base.addr cimport addr_t
from fastpath.base.mailbox cimport letter_t
from fastpath.base.timer cimport timer_t
from fastpath.http.web cimport web_t

# A client of an HTTP vip; the fd is ours now.
cdef void web_open(
    web_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil

# The poller reported `events` of a client or of an upstream connection.
cdef void web_client_event(
    web_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil
cdef void web_server_event(
    web_t* w, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil

# A timer of ours fired.
cdef void web_timer(web_t* w, timer_t* t) noexcept nogil

# Python answered; the letter's load is ours now.
cdef void web_answer(web_t* w, const letter_t* letter) noexcept nogil

# Go on with exchanges that had their turn and were not finished.
cdef void web_run(web_t* w) noexcept nogil

# The backend in `slot` is dead: let go of its connections.
cdef void web_reset_backend(web_t* w, uint32_t slot) noexcept nogil
