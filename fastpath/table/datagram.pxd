# Sockets that take datagrams of clients: one for each worker, side by side.
from fastpath.base.addr cimport addr_t

cdef enum:
    DOOR_BYTES = 4194304   # of a receive buffer: 3,000 small datagrams, 60 large trains

# Give a socket that is bound the options of a vip's, or of a transparent listener's:
# which address was dialled, trains of datagrams in one piece (GRO), what was lost.
# Those that the kernel does not know are done without.
cdef void datagram_options(int fd, const addr_t* at, bint transparent) noexcept nogil

# Make receive and send buffers as large as the system lets us.
cdef void datagram_room(int fd, int bytes) noexcept nogil
