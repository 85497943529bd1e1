# How a relay gets its backend.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.addr cimport addr_t
from fastpath.mailbox cimport LETTER
from fastpath.relay cimport relay_t, relays_t, side_t
from fastpath.table cimport vip_t

# Count a client of a vip, whose address has the hash `source`. Return -1, or the DROP
# of the limit that is met: then vip_leave is due, too. `by_source` is for that.
cdef int vip_admit(
    const vip_t* v, uint64_t source, uint64_t now_ms, uint8_t* by_source
) noexcept nogil

# Tell Python about the backend in `slot`; counted if there is no room.
cdef void dial_tell(relays_t* rs, LETTER kind, uint32_t slot) noexcept nogil

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
