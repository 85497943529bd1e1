# How a flow gets its backend.
from libc.stdint cimport uint32_t
from fastpath.udp.state cimport flow_t, flows_t

# Pick a backend and connect a socket to it. Return False if there is none: f.reason
# says why, and the flow is as it was.
cdef bint flow_steer(flows_t* fs, flow_t* f) noexcept nogil

# The backend refuses datagrams, or cannot be reached: count that, and leave it.
cdef void flow_failed(flows_t* fs, flow_t* f) noexcept nogil

# The backend answered for the first time.
cdef void flow_answered(flows_t* fs, flow_t* f) noexcept nogil

# The flow's socket gets many datagrams at once: let it have the options for that.
cdef void flow_busy(flow_t* f) noexcept nogil

# The error that a socket has met since it was last asked; 0 = none.
cdef int socket_error(int fd) noexcept nogil
