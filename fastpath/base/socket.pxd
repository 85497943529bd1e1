# Options and ends of connected sockets.
from fastpath.base.addr cimport addr_t

# Keepalive and user timeout of a connected socket.
cdef void socket_keepalive(
    int fd, int keepalive_s, int user_timeout_ms
) noexcept nogil

# Let the ACK that ends a handshake, or follows the next segment, travel with our own
# bytes. One packet less where those are at hand; up to 200 ms late where not.
cdef void socket_lazy_ack(int fd) noexcept nogil

# Close; the peer gets an RST instead of a FIN.
cdef void socket_reset(int fd) noexcept nogil

# Let a socket that will be connected have the ip of `source`, which need not be ours,
# and any port. Return 0, or -1 and errno; EPERM = it needs CAP_NET_RAW, or _ADMIN.
cdef int socket_borrow(int fd, const addr_t* source) noexcept nogil

# Set an option that is an int.
cdef int set_int(int fd, int level, int name, int value) noexcept nogil
