# Pools, vips and upstreams: what Python says as the structs that workers read. A block
# holds its slot, and the slots of its backends, for as long as it exists.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.linux.socket cimport sockaddr_storage, socklen_t
from fastpath.table.registry cimport Registry
from fastpath.table.table cimport (
    Block, backend_t, failure_t, pool_t, upstream_t, vip_t,
)

# Address of a backend for connect(2); returns its size.
cdef socklen_t backend_sockaddr(
    const backend_t* b, sockaddr_storage* into
) noexcept nogil

cdef class PoolBlock(Block):
    cdef Registry registry
    cdef list paths              # bytes that backends borrow
    cdef uint32_t named          # backends whose slots are taken, the first ones

    cdef pool_t* pool(self)
    cdef _fill_backend(self, backend_t* b, spec)

cdef class VipBlock(Block):
    cdef Registry registry
    cdef object kept             # what the structs borrow from

    cdef vip_t* vip(self)
    cdef _fill_limits(self, spec)
    cdef _fill_http(self, spec)
    cdef _fill_failure(self, failure_t* failure, spec)

cdef class UpstreamBlock(Block):
    cdef Registry registry
    cdef readonly uint64_t stamp
    cdef object kept

    cdef upstream_t* upstream(self)
