# Datagrams on their way out: runs of one flow and size become trains, and all that
# leave by one socket go with one system call.
from libc.stdint cimport uint8_t, uint32_t
from fastpath.base.linux.datagram cimport iovec, mmsghdr
from fastpath.base.linux.socket cimport socklen_t
from fastpath.base.stats cimport udp_stats_t
from fastpath.udp.arena cimport datagram_t

cdef enum:
    OUTBOX_PIECES = 128
    OUTBOX_VECTORS = 256
    PIECE_CONTROL = 64
    TRAIN_MOST = 64            # datagrams: what older kernels take
    TRAIN_BYTES = 65000        # below the largest datagram of both families

# Where datagrams go, and how they say where they come from.
cdef struct target_t:
    int           fd
    const void*   name         # sockaddr; NULL = the socket is connected
    socklen_t     name_size
    const void*   control      # a whole control message, or NULL
    uint32_t      control_size
    uint8_t*      no_trains    # of the flow: they were refused on this way
    udp_stats_t*  stats
    int           way          # 0 = up, 1 = down

# What one message carries.
cdef struct piece_t:
    int           fd
    uint32_t      segment      # bytes of each datagram but perhaps the last
    uint32_t      size
    uint32_t      count        # datagrams
    uint8_t       open         # another one may follow: the last was not shorter
    uint8_t       way
    uint8_t*      no_trains
    udp_stats_t*  stats

cdef struct outbox_t:
    uint32_t  next             # piece to be sent
    uint32_t  count            # pieces
    uint32_t  vectors_used
    piece_t   pieces[OUTBOX_PIECES]
    mmsghdr   messages[OUTBOX_PIECES]
    iovec     vectors[OUTBOX_VECTORS]
    char      control[OUTBOX_PIECES][PIECE_CONTROL]

# Add what fits of `d`, which loses what was added. Return whether that was all; if not,
# the outbox is due to be sent. What it points to must stay until then.
cdef bint outbox_add(
    outbox_t* o, datagram_t* d, const target_t* target
) noexcept nogil

# Send from piece `next` on. What is lost is counted and passed over; but if `stops` and
# an error is the peer's (see peer_failed), stop there and return the errno. 0 = done.
cdef int outbox_send(outbox_t* o, bint stops) noexcept nogil

# All that was not sent is to leave by another socket.
cdef void outbox_turn(outbox_t* o, int fd, uint8_t* no_trains) noexcept nogil

# Count what was not sent as lost, and empty it.
cdef void outbox_lose(outbox_t* o, int loss) noexcept nogil

cdef inline void outbox_clear(outbox_t* o) noexcept nogil:
    o.next = 0
    o.count = 0
    o.vectors_used = 0

# The LOSS of a datagram that could not be sent.
cdef int loss_of(int error) noexcept nogil

# Whether an errno of a connected socket says that its peer does not take datagrams.
cdef bint peer_failed(int error) noexcept nogil
