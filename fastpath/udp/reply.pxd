# From backends to clients.
from libc.stdint cimport uint32_t
from fastpath.udp.state cimport flows_t

# The poller reported input or an error of the socket of the flow that a tag names.
cdef void reply_event(
    flows_t* fs, uint32_t index, uint32_t generation
) noexcept nogil
