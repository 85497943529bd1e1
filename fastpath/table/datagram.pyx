"""Sockets of UDP for vips and transparent listeners: bind, options, taking over.

Each worker has its own, and the kernel gives a client's datagrams to the same one for
as long as the group is what it is (SO_REUSEPORT hashes address and port).
"""

import os

from libc.errno cimport EINVAL, errno
from libc.string cimport memcmp, memset

from fastpath.base.addr cimport addr_from_sockaddr, addr_parse, addr_text
from fastpath.base.linux.datagram cimport (
    IPV6_ORIGDSTADDR,
    IPV6_RECVPKTINFO,
    IP_ORIGDSTADDR,
    IP_PKTINFO,
    SOL_UDP,
    SO_RCVBUF,
    SO_RCVBUFFORCE,
    SO_RXQ_OVFL,
    SO_SNDBUF,
    SO_SNDBUFFORCE,
    UDP_GRO,
)
from fastpath.base.linux.file cimport (
    F_DUPFD_CLOEXEC,
    F_GETFL,
    F_SETFL,
    O_NONBLOCK,
    close,
    fcntl,
)
from fastpath.base.linux.socket cimport (
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_UDP,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    SO_PROTOCOL,
    SO_REUSEADDR,
    SO_REUSEPORT,
    getsockname,
    getsockopt,
    sockaddr,
    sockaddr_storage,
    socket,
    socklen_t,
)
from fastpath.base.socket cimport set_int
from fastpath.table.listener cimport Sockets, listener_bind, set_transparent

from fastpath.api.spec import Listener


cdef void datagram_room(int fd, int bytes) noexcept nogil:
    # Beyond the system's limit where we may; else up to it.
    if set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes) == -1:
        set_int(fd, SOL_SOCKET, SO_RCVBUF, bytes)
    if set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, bytes) == -1:
        set_int(fd, SOL_SOCKET, SO_SNDBUF, bytes)


cdef void datagram_options(int fd, const addr_t* at, bint transparent) noexcept nogil:
    cdef bint v6 = at.family == AF_INET6
    cdef addr_t none

    memset(&none, 0, sizeof(none))
    set_int(fd, SOL_UDP, UDP_GRO, 1)
    set_int(fd, SOL_SOCKET, SO_RXQ_OVFL, 1)
    datagram_room(fd, DOOR_BYTES)
    if transparent:
        if v6:
            set_int(fd, IPPROTO_IPV6, IPV6_ORIGDSTADDR, 1)
        else:
            set_int(fd, IPPROTO_IP, IP_ORIGDSTADDR, 1)
    elif memcmp(at.ip, none.ip, 16) == 0:
        # Of all addresses: replies must come from the one that was dialled.
        if v6:
            set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        else:
            set_int(fd, IPPROTO_IP, IP_PKTINFO, 1)


cdef int _open(addr_t* at, bint beside, bint transparent) noexcept nogil:
    cdef int fd = socket(at.family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    cdef int failed

    if fd == -1:
        return -errno
    if transparent and set_transparent(fd, at.family) == -1:
        failed = -errno
    else:
        failed = listener_bind(fd, at, beside)
    if failed < 0:
        close(fd)
        return failed
    datagram_options(fd, at, transparent)
    # Only now, as in listener_open: before bind(2) they would let another process share
    # the address unnoticed. The second lets sockets to reply by stand beside this one.
    set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1)
    if transparent:
        set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    return fd


cdef _refuse(vip, int failed, what):
    host = f"[{vip.host}]" if ":" in vip.host else vip.host
    why = os.strerror(-failed)
    raise OSError(-failed, f"cannot {what} {host}:{vip.port} (UDP): {why}")


def open_datagrams(vip, int count, bint beside=False):
    """Bind `count` sockets side by side; as listener.open_listeners."""
    cdef addr_t at
    cdef Sockets sockets = Sockets(count)
    cdef bint transparent = isinstance(vip, Listener)
    cdef int fd, i

    addr_parse(&at, vip.host.encode(), vip.port)
    for i in range(count):
        fd = _open(&at, beside or i > 0, transparent)
        if fd < 0:
            _refuse(vip, fd, "take datagrams on")
        sockets.fds[i] = fd
    sockets.address = (addr_text(&at), at.port)
    return sockets


cdef int _check_shared(int fd, const addr_t* wanted, addr_t* bound) noexcept nogil:
    """Read where `fd` is bound. Return 0, or -errno if it may not stand for that."""
    cdef sockaddr_storage name
    cdef socklen_t size = sizeof(name)
    cdef int protocol = 0
    cdef socklen_t room = sizeof(protocol)

    if getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &room) == -1:
        return -errno
    if protocol != IPPROTO_UDP or getsockname(fd, <sockaddr*>&name, &size) == -1:
        return -EINVAL
    addr_from_sockaddr(bound, &name)
    if bound.family != wanted.family or memcmp(bound.ip, wanted.ip, 16) != 0:
        return -EINVAL
    if bound.port == 0 or (wanted.port > 0 and bound.port != wanted.port):
        return -EINVAL
    return 0


def share_datagrams(vip, fds, int count):
    """As open_datagrams, of sockets that are bound already, which stay the caller's.

    Each goes to one worker: two that read from one socket would tear flows apart.
    Workers without one have -1.
    """
    cdef Sockets sockets = Sockets(count)
    cdef addr_t wanted, bound
    cdef int failed, given, fd, i

    if not 1 <= len(fds) <= count:  # one more, and nobody would serve its clients
        raise OSError(EINVAL, f"{len(fds)} sockets for {count} workers")
    memset(&bound, 0, sizeof(bound))
    addr_parse(&wanted, vip.host.encode(), vip.port)
    for i in range(len(fds)):
        given = fds[i]
        failed = _check_shared(given, &wanted, &bound)
        if failed < 0:
            _refuse(vip, failed, f"take over descriptor {given} for")
        fd = fcntl(given, F_DUPFD_CLOEXEC, 0)
        if fd == -1:
            _refuse(vip, -errno, f"take over descriptor {given} for")
        sockets.fds[i] = fd
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)
        datagram_options(fd, &wanted, isinstance(vip, Listener))
    sockets.address = (addr_text(&bound), bound.port)
    sockets.shared = True
    return sockets
