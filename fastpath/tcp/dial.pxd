# How a relay gets its backend.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.tcp.relay cimport relay_t, relays_t, side_t

# Dial for a client that was let in, and that `active` counts already.
cdef void dial_start(relays_t* rs, relay_t* r) noexcept nogil

# The poller reported `events` for one end of a relay that is DIALLING.
cdef void dial_event(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil

# The connect timeout of a relay that is DIALLING has passed.
cdef void dial_timer(relays_t* rs, relay_t* r) noexcept nogil
