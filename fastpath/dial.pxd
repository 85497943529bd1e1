# How a relay gets its backend.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.registry cimport backend_state_t
from fastpath.relay cimport relay_t, relays_t, side_t
from fastpath.table cimport vip_t

# A dial to `backend` failed, or stands since now: count it, and tell Python what that
# changed. `v` may be NULL.
cdef void dial_note_failure(
    relays_t* rs, const vip_t* v, backend_state_t* backend
) noexcept nogil
cdef void dial_note_success(
    relays_t* rs, backend_state_t* backend, uint64_t began_us
) noexcept nogil

# Dial for a client that was let in, and that `active` counts already.
cdef void dial_start(relays_t* rs, relay_t* r) noexcept nogil

# The poller reported `events` for one end of a relay that is DIALLING.
cdef void dial_event(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil

# The connect timeout of a relay that is DIALLING has passed.
cdef void dial_timer(relays_t* rs, relay_t* r) noexcept nogil
