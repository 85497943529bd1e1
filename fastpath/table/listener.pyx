"""Listening sockets: bind, options, accept."""

import os

cimport cython
from libc.errno cimport EINTR, EINVAL, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from fastpath.base.addr cimport (
    addr_from_sockaddr,
    addr_parse,
    addr_text,
    addr_to_sockaddr,
)
from fastpath.base.linux.file cimport (
    F_DUPFD_CLOEXEC,
    F_GETFL,
    F_SETFL,
    O_NONBLOCK,
    close,
    fcntl,
    unlink,
)
from fastpath.base.linux.socket cimport (
    AF_INET6,
    AF_UNIX,
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
    SO_ACCEPTCONN,
    SO_PROTOCOL,
    SO_REUSEADDR,
    SO_REUSEPORT,
    TCP_DEFER_ACCEPT,
    TCP_NODELAY,
    TCP_QUICKACK,
    accept4,
    bind,
    getsockname,
    getsockopt,
    listen,
    sockaddr,
    sockaddr_storage,
    sockaddr_un,
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

    set_int(fd, SOL_SOCKET, SO_REUSEPORT, beside)
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
    # TIME_WAIT of the process before must not keep us from listening.
    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)
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


@cython.no_gc
cdef class Sockets:
    """Sockets that listen at one address, one for each worker.

    Until workers have them they end with this object, and so does the file that bind(2)
    made for them: what was opened for an update that fails is closed where nothing has
    to work but free(3).
    """

    def __cinit__(self, int count):
        cdef int i

        self.fds = <int*>malloc(max(1, count) * sizeof(int))
        if self.fds == NULL:
            raise MemoryError
        self.count = count
        for i in range(count):
            self.fds[i] = -1

    def __dealloc__(self):
        self.shut()
        free(self.fds)

    cdef void shut(self) noexcept:
        cdef int i

        if self.given or self.fds == NULL:
            return
        for i in range(self.count):
            if self.fds[i] != -1:
                close(self.fds[i])
                self.fds[i] = -1
        if self.path is not None:
            # The next attempt would find its address in use.
            unlink(self.path)
            self.path = None

    def close(self):
        """Close them, unless workers have them. Again does nothing."""
        self.shut()

    @property
    def numbers(self):
        """The descriptors."""
        return [self.fds[i] for i in range(self.count)]


cdef str _shown(vip):
    if vip.host.startswith(_UNIX):
        return vip.host[len(_UNIX):]
    host = f"[{vip.host}]" if ":" in vip.host else vip.host
    return f"{host}:{vip.port}"


cdef _refuse(vip, int failed, what="listen on"):
    why = os.strerror(-failed)
    raise OSError(-failed, f"cannot {what} {_shown(vip)}: {why}")


cdef int _duplicate(int fd) noexcept nogil:
    cdef int got = fcntl(fd, F_DUPFD_CLOEXEC, 0)
    return got if got != -1 else -errno


cdef int _open_path(const char* path, size_t size, int backlog) noexcept nogil:
    cdef int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    cdef sockaddr_un name
    cdef int failed

    if fd == -1:
        return -errno
    memset(&name, 0, sizeof(name))
    name.sun_family = AF_UNIX
    memcpy(name.sun_path, path, size)
    if bind(fd, <sockaddr*>&name, sizeof(name)) == -1:
        failed = -errno
        close(fd)
        return failed
    if listen(fd, backlog) == -1:
        failed = -errno
        unlink(path)
        close(fd)
        return failed
    return fd


cdef Sockets _open_unix(vip, int count):
    """One socket, for all: the kernel has no SO_REUSEPORT for paths."""
    cdef Sockets sockets = Sockets(count)
    cdef bytes path = os.fsencode(vip.host[len(_UNIX):])
    cdef int backlog = vip.backlog
    cdef int fd, i

    sockets.address = (vip.host, 0)
    fd = _open_path(path, len(path), backlog)  # spec.py bounds it
    if fd < 0:
        _refuse(vip, fd)
    sockets.path = path
    sockets.fds[0] = fd
    for i in range(1, count):
        fd = _duplicate(sockets.fds[0])
        if fd < 0:
            _refuse(vip, fd)
        sockets.fds[i] = fd
    return sockets


cdef Sockets _open_ip(vip, int count, bint beside):
    """One socket each, side by side with SO_REUSEPORT."""
    cdef addr_t at
    cdef Sockets sockets = Sockets(count)
    cdef listen_options_t options = listen_options(vip)
    cdef bint transparent = isinstance(vip, Listener)
    cdef int fd, i

    addr_parse(&at, vip.host.encode(), vip.port)
    for i in range(count):
        fd = listener_open(&at, &options, beside or i > 0, transparent)
        if fd < 0:
            _refuse(vip, fd)
        sockets.fds[i] = fd
    sockets.address = (addr_text(&at), at.port)
    return sockets


def open_listeners(vip, int count, bint beside=False):
    """Bind `count` sockets side by side; return them.

    `beside`: the caller has that port at another address, perhaps at all of them;
    otherwise nobody else may. Raises OSError, nothing then stays open.
    """
    if vip.host.startswith(_UNIX):
        return _open_unix(vip, count)
    return _open_ip(vip, count, beside)


cdef int _has_int(int fd, int level, int name, int wanted) noexcept nogil:
    cdef int value = 0
    cdef socklen_t size = sizeof(value)

    if getsockopt(fd, level, name, &value, &size) == -1:
        return -errno
    return value == wanted


cdef int _check_shared(int fd, const addr_t* wanted, addr_t* bound) except -1:
    """Read where `fd` listens. Raise OSError if it may not stand for `wanted`."""
    cdef sockaddr_storage name
    cdef socklen_t size = sizeof(name)
    cdef int is_tcp = _has_int(fd, SOL_SOCKET, SO_PROTOCOL, IPPROTO_TCP)
    cdef int listens = _has_int(fd, SOL_SOCKET, SO_ACCEPTCONN, 1)

    if is_tcp < 0:
        raise OSError(-is_tcp, os.strerror(-is_tcp))
    if is_tcp == 0 or listens != 1:
        raise OSError(EINVAL, f"descriptor {fd} does not listen for TCP")
    if getsockname(fd, <sockaddr*>&name, &size) == -1:
        raise OSError(errno, os.strerror(errno))
    addr_from_sockaddr(bound, &name)
    if bound.family != wanted.family or memcmp(bound.ip, wanted.ip, 16) != 0 or (
        wanted.port > 0 and bound.port != wanted.port
    ):
        where = f"{addr_text(bound)} port {bound.port}"
        raise OSError(EINVAL, f"descriptor {fd} listens on {where}")
    return 0


cdef Sockets _share(vip, fds, int count):
    cdef Sockets sockets = Sockets(count)
    cdef listen_options_t options = listen_options(vip)
    cdef addr_t wanted, bound
    cdef int failed, given, fd, i

    if not 1 <= len(fds) <= count:  # one more, and nobody would serve its clients
        raise OSError(EINVAL, f"{len(fds)} sockets for {count} workers")
    memset(&wanted, 0, sizeof(wanted))
    addr_parse(&wanted, vip.host.encode(), vip.port)
    for given in fds:
        _check_shared(given, &wanted, &bound)
    for i in range(count):
        given = fds[i % len(fds)]
        fd = _duplicate(given)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        sockets.fds[i] = fd
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)
        failed = listener_set(fd, &options)
        if failed < 0:
            raise OSError(-failed, os.strerror(-failed))
    sockets.address = (addr_text(&bound), bound.port)
    sockets.shared = True
    return sockets


def share_listeners(vip, fds, int count):
    """As open_listeners, of sockets that listen already, which stay the caller's.

    `count` duplicates of them in turn: several workers may have one socket in common.
    """
    try:
        return _share(vip, fds, count)
    except OSError as error:
        why = f"cannot take over {_shown(vip)}: {error.strerror}"
        raise OSError(error.errno, why) from None


@cython.no_gc
cdef class OtherOptions:
    """Options that live listeners are to have, once nothing else can fail."""

    def __cinit__(self, spec, Sockets sockets):
        self.options = listen_options(spec)
        self.sockets = sockets

    cdef void set(self) noexcept:
        cdef int i

        for i in range(self.sockets.count):
            listener_set(self.sockets.fds[i], &self.options)


def set_listeners(vip, Sockets sockets):
    """Give live listeners the options of a changed vip."""
    cdef OtherOptions other = OtherOptions(vip, sockets)
    other.set()


def accept(int fd):
    """Take one client, for tests: (fd, host, port). The fd is the caller's."""
    cdef addr_t client
    cdef int got = listener_accept(fd, &client)
    if got < 0:
        raise OSError(-got, "accept")
    return got, addr_text(&client), client.port
