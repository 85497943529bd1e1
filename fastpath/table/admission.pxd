# Admission: the limits of a vip, for every protocol.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.table.registry cimport vip_state_t
from fastpath.table.table cimport vip_t

# A place among all clients of the vip. Return -1, or the DROP of the limit that is met:
# then vip_leave is due, too.
cdef int vip_enter(const vip_t* v) noexcept nogil

# Limits that depend on the client's address, hashed to `source`, and on the time. As
# vip_enter; `by_source` is for vip_leave.
cdef int vip_judge(
    const vip_t* v, uint64_t source, uint64_t now_ms, uint8_t* by_source
) noexcept nogil

# Both, for a client with an address that is known at once.
cdef int vip_admit(
    const vip_t* v, uint64_t source, uint64_t now_ms, uint8_t* by_source
) noexcept nogil

# Take a client out of its vip's limits; `by_source` as vip_admit left it.
cdef void vip_leave(
    vip_state_t* vip, uint64_t source, bint by_source
) noexcept nogil
