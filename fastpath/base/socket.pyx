"""Options that relays, exchanges and listeners set alike."""

from fastpath.base.linux.file cimport close
from fastpath.base.linux.socket cimport (
    IPPROTO_TCP,
    SOL_SOCKET,
    SO_KEEPALIVE,
    SO_LINGER,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_QUICKACK,
    TCP_USER_TIMEOUT,
    linger,
    setsockopt,
)


cdef int set_int(int fd, int level, int name, int value) noexcept nogil:
    return setsockopt(fd, level, name, &value, sizeof(value))


cdef void socket_keepalive(
    int fd, int keepalive_s, int user_timeout_ms
) noexcept nogil:
    # Three probes, a third of the idle time apart: HAProxy's 30/10/3 at 30 s.
    cdef int interval_s = keepalive_s // 3 if keepalive_s >= 3 else 1

    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1 if keepalive_s > 0 else 0)
    if keepalive_s > 0:
        set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, keepalive_s)
        set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s)
        set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 3)
    set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout_ms)


cdef void socket_lazy_ack(int fd) noexcept nogil:
    set_int(fd, IPPROTO_TCP, TCP_QUICKACK, 0)


cdef void socket_reset(int fd) noexcept nogil:
    cdef linger now
    now.l_onoff = 1
    now.l_linger = 0
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now))
    close(fd)
