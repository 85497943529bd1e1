# Admission by TCP: the limits of a vip, and the client's address that they apply to.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.tcp.relay cimport relay_t, relays_t, side_t

# Relay the client `fd`, which is not the caller's from now on, whatever happens.
cdef void naming_open(
    relays_t* rs, int fd, uint32_t vip, const addr_t* client
) noexcept nogil

# The poller reported `events` for one end of a relay that is not FLOWING yet.
cdef void naming_event(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil

# The timer of such a relay fired.
cdef void naming_timer(relays_t* rs, relay_t* r) noexcept nogil

# Take the PROXY header off the bytes that wait in a socket, and nothing behind it.
# `client` becomes the address it names, or the peer's own. `scratch` has room for
# PROXYHEAD_MOST. Return 0; -EAGAIN: not whole yet, nothing was taken; -EPROTO: there is
# none, and will be none; or -errno.
cdef int socket_named(int fd, char* scratch, addr_t* client) noexcept nogil
