# Lists of networks, as vips have them.
from libc.stdint cimport uint32_t
from fastpath.base.addr cimport addr_t, network_t

cdef struct networks_t:
    uint32_t    count
    network_t*  list             # owned by the block; NULL = none

cdef inline bint networks_hold(const networks_t* n, const addr_t* a) noexcept nogil:
    return n.count > 0 and networks_find(n, a)

cdef bint networks_find(const networks_t* n, const addr_t* a) noexcept nogil

# Read texts such as "10.0.0.0/8", which the spec has checked. Raise TableError.
cdef int networks_fill(networks_t* n, texts) except -1
