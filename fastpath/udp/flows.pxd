# All flows of a worker.
from libc.stdint cimport uint32_t
from fastpath.base.context cimport context_t
from fastpath.udp.state cimport flow_t, flows_t

# `most`: flows that this worker may have.
cdef void flows_init(flows_t* fs, context_t* c, uint32_t most) noexcept nogil

# Drops what is still live, closes what is open.
cdef void flows_fini(flows_t* fs) noexcept nogil

# Make room for datagrams, once. Return False if there is no memory.
cdef bint flows_prepare(flows_t* fs) noexcept nogil

# Make room for a flow by ending the one that was idle for longest, of some. False =
# all of them have datagrams that wait.
cdef bint flow_evict(flows_t* fs) noexcept nogil

# ---- For the worker.

# The timer fired: idle for too long, or armed anew.
cdef void flow_timer(flows_t* fs, flow_t* f) noexcept nogil

# Take flows of the backend in `slot` away from it, or end all (SLOT_ALL), among `count`
# from `first`. Return the next to look at, or 0 when all were looked at.
cdef uint32_t flows_reset(
    flows_t* fs, uint32_t slot, uint32_t first, uint32_t count
) noexcept nogil

# End flows whose vip or door has gone, a step of it; while flows.sweeping.
cdef void flows_sweep(flows_t* fs, uint32_t count) noexcept nogil
