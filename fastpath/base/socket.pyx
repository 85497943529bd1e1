"""Options that relays, exchanges and listeners set alike."""

from fastpath.base.addr cimport addr_t, addr_to_sockaddr
from fastpath.base.linux.file cimport close
from fastpath.base.linux.socket cimport (
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_TRANSPARENT,
    IP_BIND_ADDRESS_NO_PORT,
    IP_LOCAL_PORT_RANGE,
    IP_TRANSPARENT,
    SOL_SOCKET,
    SO_KEEPALIVE,
    SO_LINGER,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_QUICKACK,
    TCP_USER_TIMEOUT,
    bind,
    linger,
    setsockopt,
    sockaddr,
    sockaddr_storage,
    socklen_t,
)

cdef enum:
    BORROWED_PORTS = 0x7fff2800  # 10240 to 32767, in one word


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


cdef int socket_borrow(int fd, const addr_t* source) noexcept nogil:
    cdef sockaddr_storage name
    cdef addr_t from_ = source[0]
    cdef socklen_t size
    cdef int failed

    # The port is chosen by connect(2), among those free for this very pair, and below
    # those that the owner of the address takes for connections of its own: two with the
    # same pair of addresses and ports would get each other's packets. Kernels before
    # 6.3 have no such range; then the two share one.
    from_.port = 0
    size = addr_to_sockaddr(&from_, &name)
    if source.family == AF_INET6:
        failed = set_int(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        failed = set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1)
    if failed < 0:
        return failed
    set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    set_int(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, BORROWED_PORTS)
    return bind(fd, <sockaddr*>&name, size)


cdef void socket_reset(int fd) noexcept nogil:
    cdef linger now
    now.l_onoff = 1
    now.l_linger = 0
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now))
    close(fd)
