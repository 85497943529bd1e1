"""One epoll descriptor per worker.

Some facts about edge-triggered epoll that the callers rely on (epoll(7)):
adding a descriptor that is ready already reports it; a read shorter than asked
means dry, unless EPOLLRDHUP or EPOLLHUP was reported: then the FIN may sit behind
the data with no further event to come; EPOLLOUT is only reported after a send met
EAGAIN, or when the registration is made or changed on a writable socket.
"""

from libc.errno cimport EINTR, errno

from fastpath.base.linux.file cimport (
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    close,
    epoll_create1,
    epoll_ctl,
    epoll_wait,
)


cdef int poller_init(poller_t* p) noexcept nogil:
    p.fd = epoll_create1(EPOLL_CLOEXEC)
    return 0 if p.fd != -1 else -errno


cdef void poller_fini(poller_t* p) noexcept nogil:
    if p.fd != -1:
        close(p.fd)
        p.fd = -1


cdef int poller_ctl(
    poller_t* p, int command, int fd, uint32_t events, uint64_t tag
) noexcept nogil:
    cdef epoll_event event

    event.events = events
    event.data.u64 = tag
    return 0 if epoll_ctl(p.fd, command, fd, &event) != -1 else -errno


cdef int poller_add(poller_t* p, int fd, uint32_t events, uint64_t tag) noexcept nogil:
    return poller_ctl(p, EPOLL_CTL_ADD, fd, events, tag)


cdef int poller_change(
    poller_t* p, int fd, uint32_t events, uint64_t tag
) noexcept nogil:
    return poller_ctl(p, EPOLL_CTL_MOD, fd, events, tag)


cdef int poller_remove(poller_t* p, int fd) noexcept nogil:
    return poller_ctl(p, EPOLL_CTL_DEL, fd, 0, 0)


cdef int poller_wait(poller_t* p, int timeout_ms) noexcept nogil:
    cdef int n = epoll_wait(p.fd, p.events, POLLER_BATCH, timeout_ms)
    if n != -1:
        return n
    return 0 if errno == EINTR else -errno
