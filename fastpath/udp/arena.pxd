# Datagrams as they are received: up to 64 at a time, into slots that a worker has.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.base.linux.datagram cimport iovec, mmsghdr

cdef enum:
    ARENA_SLOTS = 64
    # Any datagram, and 256 bytes: the heads of neighbours lie in different sets of the
    # caches.
    ARENA_STRIDE = 65792
    ARENA_CONTROL = 192        # of control messages for each
    NONE_NEXT = 0xffffffff

# One datagram, or a train: several of one size, and perhaps a shorter last one, which
# the kernel has put together.
cdef struct datagram_t:
    char*     data
    uint32_t  size
    uint32_t  segment          # bytes of each; 0 = not a train
    uint32_t  lost             # by the socket before this one, since it was made
    uint32_t  next             # in the arena, of the same flow; NONE_NEXT = last
    addr_t    dialled          # family 0 = not told
    uint32_t  name_size

cdef struct arena_t:
    uint32_t     used          # slots whose datagrams are not sent yet
    char*        memory        # owned; touched only where a datagram lies
    mmsghdr      headers[ARENA_SLOTS]
    iovec        vectors[ARENA_SLOTS]
    uint64_t     names[ARENA_SLOTS][4]  # of senders: a sockaddr_in6 each, aligned
    char         control[ARENA_SLOTS][ARENA_CONTROL]
    datagram_t   got[ARENA_SLOTS]

# `a` is zeroed. Return 0 or -ENOMEM.
cdef int arena_init(arena_t* a) noexcept nogil
cdef void arena_fini(arena_t* a) noexcept nogil

# Receive into up to `most` slots from `first` on. Return how many were, or -errno.
cdef int arena_receive(
    arena_t* a, int fd, uint32_t first, uint32_t most
) noexcept nogil

# The same of one datagram, from a socket without options; its sender is not told.
# Return 1, or -errno.
cdef int arena_receive_one(arena_t* a, int fd, uint32_t slot) noexcept nogil

# Datagrams in `d`.
cdef inline uint32_t datagram_count(const datagram_t* d) noexcept nogil:
    if d.segment == 0 or d.size <= d.segment:
        return 1
    return (d.size + d.segment - 1) // d.segment
