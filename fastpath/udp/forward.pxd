# From clients to backends.
from libc.stdint cimport uint32_t
from fastpath.udp.state cimport door_t, flows_t

# Take datagrams from a door and forward them, batch by batch, up to `rounds`. Return
# whether more may wait.
cdef bint forward_read(flows_t* fs, door_t* door, uint32_t rounds) noexcept nogil
