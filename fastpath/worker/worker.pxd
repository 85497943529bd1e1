# One OS thread of the data plane.
from fastpath.worker.fleet cimport fleet_t, worker_t

# Allocate a worker of `fleet`. NULL = no memory or no descriptors.
cdef worker_t* worker_new(
    fleet_t* fleet, int index, size_t pipe_bytes, bint splice
) noexcept nogil

# Drop its relays, close what it owns, free it. Its thread has ended. NULL is accepted.
cdef void worker_free(worker_t* w) noexcept nogil

# Serve until LETTER_STOP. The calling thread has given up the GIL for good.
cdef void worker_loop(worker_t* w) noexcept nogil

cdef class Worker:
    cdef worker_t* worker   # borrowed from the engine
