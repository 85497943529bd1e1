# From backends to clients.
from libc.stdint cimport uint32_t
from fastpath.udp.state cimport flow_t, flows_t

# The poller reported `events` for the socket of the flow that a tag names.
cdef void reply_event(
    flows_t* fs, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil

# Go on with a flow that had its turn: it comes out of the run queue, and may be no more.
cdef void reply_run(flows_t* fs, flow_t* f) noexcept nogil
