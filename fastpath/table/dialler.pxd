# Connecting to backends, for every protocol.
from libc.stdint cimport uint64_t
from fastpath.base.context cimport context_t
from fastpath.table.registry cimport backend_state_t
from fastpath.table.table cimport pool_t

# A dial to `backend` failed, or stands since now: count it, and tell Python what that
# changed. `pool` may be NULL.
cdef void dial_note_failure(
    context_t* c, const pool_t* pool, backend_state_t* backend
) noexcept nogil
cdef void dial_note_success(
    context_t* c, backend_state_t* backend, uint64_t began_us
) noexcept nogil
