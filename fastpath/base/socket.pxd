# Options and ends of connected sockets.

# Keepalive and user timeout of a connected socket.
cdef void socket_keepalive(
    int fd, int keepalive_s, int user_timeout_ms
) noexcept nogil

# Let the ACK that ends a handshake, or follows the next segment, travel with our own
# bytes. One packet less where those are at hand; up to 200 ms late where not.
cdef void socket_lazy_ack(int fd) noexcept nogil

# Close; the peer gets an RST instead of a FIN.
cdef void socket_reset(int fd) noexcept nogil

# Set an option that is an int.
cdef int set_int(int fd, int level, int name, int value) noexcept nogil
