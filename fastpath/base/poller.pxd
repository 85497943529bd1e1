# epoll(7) as the core uses it: edge-triggered, and a 64-bit tag for each descriptor.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.linux.file cimport epoll_event

cdef enum:
    POLLER_BATCH = 256  # events taken at once

# What a tag names. Each side of a relay is a kind of its own.
cdef enum TAG:
    TAG_RELAY_DOWN
    TAG_RELAY_UP
    TAG_LISTENER
    TAG_MAILBOX
    TAG_CONN              # a client of HTTP
    TAG_UPCONN            # a connection to an upstream
    TAG_DOOR              # where clients of UDP send
    TAG_FLOW              # the socket of a flow to its backend

cdef struct poller_t:
    int fd                                # owned
    epoll_event events[POLLER_BATCH]

# A tag survives the descriptor it was made for: `generation` tells an event of the
# relay that stood at `index` before from one of the relay that stands there now.
cdef inline uint64_t tag_make(
    TAG kind, uint32_t index, uint32_t generation
) noexcept nogil:
    return (<uint64_t>kind << 60) | (
        <uint64_t>(generation & 0xfffffff) << 32
    ) | index

cdef inline TAG tag_kind(uint64_t tag) noexcept nogil:
    return <TAG>(tag >> 60)

cdef inline uint32_t tag_generation(uint64_t tag) noexcept nogil:
    return (tag >> 32) & 0xfffffff

cdef inline uint32_t tag_index(uint64_t tag) noexcept nogil:
    return <uint32_t>tag

# All return 0 (poller_wait: the number of events) or -errno.
cdef int poller_init(poller_t* p) noexcept nogil
cdef void poller_fini(poller_t* p) noexcept nogil
cdef int poller_add(poller_t* p, int fd, uint32_t events, uint64_t tag) noexcept nogil
cdef int poller_change(
    poller_t* p, int fd, uint32_t events, uint64_t tag
) noexcept nogil
cdef int poller_remove(poller_t* p, int fd) noexcept nogil

# Wait at most `timeout_ms`, -1 = for ever. EINTR counts as no event.
cdef int poller_wait(poller_t* p, int timeout_ms) noexcept nogil
