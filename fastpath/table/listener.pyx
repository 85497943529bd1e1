"""Listening sockets: bind, options, accept."""

import fcntl
import os
import socket as socket_module

from libc.errno cimport EINTR, EINVAL, errno

from fastpath.base.addr cimport (
    addr_from_sockaddr,
    addr_parse,
    addr_text,
    addr_to_sockaddr,
)
from fastpath.base.linux.file cimport close
from fastpath.base.linux.socket cimport (
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_TRANSPARENT,
    IPV6_V6ONLY,
    IP_TRANSPARENT,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    SO_REUSEADDR,
    SO_REUSEPORT,
    TCP_DEFER_ACCEPT,
    TCP_NODELAY,
    TCP_QUICKACK,
    accept4,
    bind,
    getsockname,
    listen,
    sockaddr,
    sockaddr_storage,
    socket,
    socklen_t,
)
from fastpath.base.socket cimport set_int, socket_keepalive

from fastpath.api.checks import UNIX as _UNIX
from fastpath.api.spec import Listener


cdef int listener_set(int fd, const listen_options_t* options) noexcept nogil:
    # Nagle's algorithm would add a delay that neither client nor backend chose.
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1)
    socket_keepalive(fd, options.keepalive_s, options.user_timeout_ms)
    # client_first: accept(2) returns a client with its first bytes (without any, after
    # one more SYN-ACK, a second later), and the answer acknowledges them: a wake-up and
    # a packet less. Accepted sockets inherit all of these options.
    set_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 1 if options.client_first else 0)
    set_int(fd, IPPROTO_TCP, TCP_QUICKACK, 0 if options.client_first else 1)
    return 0 if listen(fd, options.backlog) != -1 else -errno


cdef int listener_bind(int fd, addr_t* at, bint beside) noexcept nogil:
    cdef sockaddr_storage name
    cdef socklen_t size = addr_to_sockaddr(at, &name)

    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    set_int(fd, SOL_SOCKET, SO_REUSEPORT, beside)
    # SO_REUSEADDR: TIME_WAIT of the process before must not keep us from listening.
    if at.family == AF_INET6:  # 0.0.0.0 and [::] are two listeners
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
    if bind(fd, <sockaddr*>&name, size) == -1:
        return -errno
    # Read back: port 0 became a free one, which the sockets beside this one need.
    size = sizeof(name)
    if getsockname(fd, <sockaddr*>&name, &size) == -1:
        return -errno
    addr_from_sockaddr(at, &name)
    return 0


cdef int set_transparent(int fd, int family) noexcept nogil:
    if family == AF_INET6:
        return set_int(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    return set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1)


cdef int listener_dialled(int fd, addr_t* dialled) noexcept nogil:
    cdef sockaddr_storage name
    cdef socklen_t size = sizeof(name)

    # TPROXY leaves the destination as it was, so it is the socket's own name. After a
    # REDIRECT it would have to be looked up in conntrack, by SO_ORIGINAL_DST.
    if getsockname(fd, <sockaddr*>&name, &size) == -1:
        return -errno
    addr_from_sockaddr(dialled, &name)
    return 0


cdef int listener_open(
    addr_t* at, const listen_options_t* options, bint beside, bint transparent
) noexcept nogil:
    cdef int fd = socket(at.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    cdef int failed

    if fd == -1:
        return -errno
    # In order: IP_TRANSPARENT, without which bind(2) refuses a foreign address; bind;
    # options; listen.
    if transparent and set_transparent(fd, at.family) == -1:
        failed = -errno
    else:
        failed = listener_bind(fd, at, beside)
    if failed == 0:
        failed = listener_set(fd, options)
    if failed < 0:
        close(fd)
        return failed
    # For the next workers' sockets, and only now that this one listens. Set before
    # bind(2), it would let a second process of this user share the address, unnoticed,
    # instead of failing with EADDRINUSE.
    set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1)
    return fd


cdef int listener_accept(int fd, addr_t* client) noexcept nogil:
    cdef sockaddr_storage name
    cdef socklen_t size
    cdef int got

    while True:
        size = sizeof(name)
        got = accept4(fd, <sockaddr*>&name, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if got != -1:
            addr_from_sockaddr(client, &name)
            return got
        if errno != EINTR:
            return -errno


# ---- For the engine.

cdef listen_options_t listen_options(vip) except *:
    cdef listen_options_t options
    options.keepalive_s = <int>vip.keepalive_s
    options.user_timeout_ms = <int>(vip.user_timeout_s * 1000)
    options.client_first = vip.client_first
    options.backlog = vip.backlog
    return options


cdef tuple open_unix_listeners(vip, int count):
    """One socket, for all: the kernel has no SO_REUSEPORT for paths."""
    path = vip.host[len(_UNIX):]
    # The duplicates share one queue: a worker that wakes for nothing gets EAGAIN.
    with socket_module.socket(socket_module.AF_UNIX) as listening:
        try:
            listening.bind(path)
        except OSError as error:
            why = os.strerror(error.errno)
            raise OSError(error.errno, f"cannot listen on {path}: {why}") from None
        listening.setblocking(False)
        listening.listen(vip.backlog)
        fds = [os.dup(listening.fileno()) for _ in range(count)]
    return (vip.host, 0), fds


def open_listeners(vip, int count, bint beside=False):
    """Bind `count` sockets side by side: ((host, port) as bound, fds).

    `beside`: the caller has that port at another address, perhaps at all of them;
    otherwise no other socket may. The fds are the caller's. Raises OSError; nothing
    stays open then. A path stays when they are closed: the user removes it.
    """
    if vip.host.startswith(_UNIX):
        return open_unix_listeners(vip, count)
    return open_ip_listeners(vip, count, beside)


cdef str _shown(vip):
    host = f"[{vip.host}]" if ":" in vip.host else vip.host
    return f"{host}:{vip.port}"


cdef tuple open_ip_listeners(vip, int count, bint beside):
    """One socket each, side by side with SO_REUSEPORT."""
    cdef addr_t at
    cdef listen_options_t options = listen_options(vip)
    cdef bint transparent = isinstance(vip, Listener)
    cdef int fd, i

    addr_parse(&at, vip.host.encode(), vip.port)
    fds = [-1] * count  # first: later there may be no memory to note a descriptor
    # The first one fails with EADDRINUSE where another socket has the address; the
    # others join it.
    try:
        for i in range(count):
            fd = listener_open(&at, &options, beside or i > 0, transparent)
            if fd < 0:
                why = os.strerror(-fd)
                raise OSError(-fd, f"cannot listen on {_shown(vip)}: {why}")
            try:
                fds[i] = fd
            except MemoryError:
                close(fd)
                raise
        return (addr_text(&at), at.port), fds
    except BaseException:
        close_listeners(fds)
        raise


def share_listeners(vip, fds, int count):
    """As open_listeners, of sockets that listen already, which stay the caller's.

    `count` duplicates of them in turn: several workers may have one socket in common.
    """
    cdef listen_options_t options = listen_options(vip)
    cdef int failed = 0

    shared = []
    try:
        if not 1 <= len(fds) <= count:  # of one more the clients would never be served
            raise OSError(EINVAL, f"{len(fds)} sockets for {count} workers")
        for i in range(count):
            # Checked before it is changed: options and O_NONBLOCK belong to the socket,
            # which another process may have, too.
            shared.append(fcntl.fcntl(fds[i % len(fds)], fcntl.F_DUPFD_CLOEXEC, 0))
            bound = _name_of(shared[i], vip)
            os.set_blocking(shared[i], False)
            failed = failed or listener_set(shared[i], &options)
        if failed < 0:
            raise OSError(-failed, os.strerror(-failed))
    except BaseException as error:
        close_listeners(shared)
        if not isinstance(error, OSError):
            raise
        why = f"cannot take over {_shown(vip)}: {error.strerror}"
        raise OSError(error.errno, why) from None
    return bound, shared


cdef tuple _name_of(int fd, vip):
    """(host, port) of a socket that may stand for `vip`. Raises OSError if none may."""
    # The socket module finds out family and protocol by itself, and closes what it has:
    # hence a duplicate.
    view = socket_module.socket(fileno=os.dup(fd))
    with view:
        listens = view.getsockopt(socket_module.SOL_SOCKET, socket_module.SO_ACCEPTCONN)
        if view.proto != socket_module.IPPROTO_TCP or not listens:
            raise OSError(EINVAL, f"descriptor {fd} does not listen for TCP")
        name = view.getsockname()[:2]
    if name != (vip.host, vip.port or name[1]):
        raise OSError(EINVAL, f"descriptor {fd} listens on {name[0]} port {name[1]}")
    return name


def set_listeners(vip, fds):
    """Give live listeners the options of a changed vip."""
    cdef listen_options_t options = listen_options(vip)
    # Clients already in the queue keep the options that they were born with.
    for fd in fds:
        listener_set(fd, &options)


def close_listeners(fds):
    """Close sockets of open_ or share_listeners that no worker has taken."""
    for fd in fds:
        if fd != -1:
            close(fd)


def accept(int fd):
    """Take one client, for tests: (fd, host, port). The fd is the caller's."""
    cdef addr_t client
    cdef int got = listener_accept(fd, &client)
    if got < 0:
        raise OSError(-got, "accept")
    return got, addr_text(&client), client.port
