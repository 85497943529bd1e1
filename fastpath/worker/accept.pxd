# Taking clients, and placing each with the worker that has least to do.
from libc.stdint cimport uint32_t
from fastpath.base.addr cimport addr_t
from fastpath.table.listener cimport listen_change_t, listener_t
from fastpath.worker.fleet cimport worker_t

# Serve a client of a vip, as a relay or by HTTP, which owns the fd from now on.
cdef void accept_open(
    worker_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil

# Own a listening socket from now on; watch it from accept_start on.
cdef void accept_take(
    worker_t* w, const listen_change_t* change, int fd
) noexcept nogil
cdef void accept_start(worker_t* w, uint32_t slot) noexcept nogil

# Serve clients that the kernel let in already, by the table in use; then close. If it
# `drains`, flows of UDP go on.
cdef void accept_stop(worker_t* w, uint32_t slot, bint drains) noexcept nogil

# The listener is readable.
cdef void accept_some(worker_t* w, listener_t* l) noexcept nogil

# Take more clients from the listeners that had more than was taken: amid the events of
# a turn, so that new clients do not wait until thousands of busy ones have been served.
cdef void accept_crowd(worker_t* w) noexcept nogil

# Listen again where descriptors had run out.
cdef void accept_resume(worker_t* w) noexcept nogil
