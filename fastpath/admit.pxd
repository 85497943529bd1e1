# Who may come in by TCP: the limits of a vip, and the address that they are held to.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.addr cimport addr_t
from fastpath.relay cimport relay_t, relays_t, side_t
from fastpath.table cimport vip_t

# Count a client of a vip, whose address has the hash `source`. Return -1, or the DROP
# of the limit that is met: then vip_leave is due, too. `by_source` is for that.
cdef int vip_admit(
    const vip_t* v, uint64_t source, uint64_t now_ms, uint8_t* by_source
) noexcept nogil

# Relay the client `fd`, which is the relay's from now on whatever happens.
cdef void admit_open(
    relays_t* rs, int fd, uint32_t vip, const addr_t* client
) noexcept nogil

# The poller reported `events` for one end of a relay that is not FLOWING yet.
cdef void admit_event(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil

# The timer of such a relay fired.
cdef void admit_timer(relays_t* rs, relay_t* r) noexcept nogil
