# Choosing a backend for a new relay, and remembering which ones fail.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.table.registry cimport backend_state_t
from fastpath.table.table cimport backend_t, pool_t, vip_t

cdef enum:
    MOST_TRIED = 4  # MAX_TRIES of spec.py

# For which client a backend is picked, and which were tried for it.
cdef struct pick_t:
    uint32_t  tried[MOST_TRIED]   # slots
    uint32_t  tried_count
    uint64_t  hash                # of the source or 5-tuple; ring only
    uint64_t  now_ms

cdef enum VERDICT_ON_BACKEND:
    BACKEND_AS_BEFORE
    BACKEND_EJECTED
    BACKEND_RECOVERED

# Share of its weight that a backend takes now, of 256; 0 = not usable.
cdef uint32_t usable_share(
    const pool_t* pool, const backend_t* b, const pick_t* ask
) noexcept nogil

# Hash that the ring of `pool` wants for a client of `v`.
cdef uint64_t balancer_hash(
    const vip_t* v, const pool_t* pool, const addr_t* client
) noexcept nogil

# Hash of a client's address alone, for limits.
cdef uint64_t source_hash(const addr_t* client) noexcept nogil

# Return a usable backend (ready, not ejected, weight > 0, not tried), of the lowest
# tier that has one; else, if the pool says "try", any that is not draining and not
# tried; else NULL. `seed` is the worker's random state. The backend is borrowed
# from the table.
cdef backend_t* balancer_pick(
    const pool_t* pool, const pick_t* ask, uint64_t* seed
) noexcept nogil

# A dial failed or succeeded. Return what this changed.
cdef VERDICT_ON_BACKEND balancer_failed(
    const pool_t* pool, backend_state_t* state, uint64_t now_ms
) noexcept nogil
cdef VERDICT_ON_BACKEND balancer_succeeded(
    backend_state_t* state, uint64_t now_ms
) noexcept nogil
