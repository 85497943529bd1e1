# How a relay gets its backend.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.addr cimport addr_t
from fastpath.registry cimport backend_state_t
from fastpath.relay cimport relay_t, relays_t, side_t
from fastpath.table cimport vip_t

# Count a client of a vip, whose address has the hash `source`. Return -1, or the DROP
# of the limit that is met: then vip_leave is due, too. `by_source` is for that.
cdef int vip_admit(
    const vip_t* v, uint64_t source, uint64_t now_ms, uint8_t* by_source
) noexcept nogil

# A dial to `backend` failed, or stands since now: count it, and tell Python what that
# changed. `v` may be NULL.
cdef void dial_note_failure(
    relays_t* rs, const vip_t* v, backend_state_t* backend
) noexcept nogil
cdef void dial_note_success(
    relays_t* rs, backend_state_t* backend, uint64_t began_us
) noexcept nogil

# Relay the client `fd`, which is the relay's from now on whatever happens.
cdef void dial_open(
    relays_t* rs, int fd, uint32_t vip, const addr_t* client
) noexcept nogil

# The poller reported `events` for one end of a relay that is DIALLING.
cdef void dial_event(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil

# The connect timeout of a relay that is DIALLING has passed.
cdef void dial_timer(relays_t* rs, relay_t* r) noexcept nogil
