# Sockets that reply from the addresses of transparent vips.
from libc.stdint cimport uint32_t
from fastpath.base.addr cimport addr_t
from fastpath.udp.state cimport flows_t, mouth_t

# The mouth of the vip in `slot`, found at `source`, for one more flow. NULL = no
# descriptors or memory, or the address may not be used.
cdef mouth_t* mouth_take(
    flows_t* fs, uint32_t slot, const addr_t* source
) noexcept nogil

# One flow less uses it; with the last one it ends. NULL is accepted.
cdef void mouth_give(flows_t* fs, mouth_t* m) noexcept nogil
