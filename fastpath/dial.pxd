# How a relay gets its backend.
from libc.stdint cimport uint32_t
from fastpath.addr cimport addr_t
from fastpath.relay cimport relay_t, relays_t, side_t

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
