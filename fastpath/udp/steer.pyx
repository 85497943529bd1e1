"""Picking a backend for a flow, and what its socket says of the backend.

A connected socket tells flows apart for us, keeps one port towards the backend, and
reports ICMP errors: a closed port counts as a failed dial, so that backends are ejected
for it. Whether a backend works shows with its first answer; until then a dial has not
succeeded.
"""

from libc.errno cimport EADDRNOTAVAIL, EAFNOSUPPORT, ENOSPC, EPERM, errno
from libc.stdint cimport uint64_t

from fastpath.base.addr cimport addr_t
from fastpath.base.linux.atomic cimport add_u32, sub_u32
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.linux.datagram cimport SOL_UDP, SO_RXQ_OVFL, UDP_GRO
from fastpath.base.linux.file cimport EPOLLIN, close
from fastpath.base.linux.socket cimport (
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    SO_ERROR,
    connect,
    getsockopt,
    sockaddr,
    sockaddr_storage,
    socket,
    socklen_t,
)
from fastpath.base.poller cimport TAG_FLOW, poller_add, tag_make
from fastpath.base.socket cimport set_int, socket_borrow
from fastpath.base.stats cimport (
    DROP_CONNECT_FAILED,
    DROP_NO_BACKEND,
    DROP_NO_DESCRIPTORS,
    backend_stats,
)
from fastpath.base.timer cimport timer_arm
from fastpath.table.block cimport backend_sockaddr
from fastpath.table.datagram cimport datagram_room
from fastpath.table.dialler cimport (
    dialler_exhausted,
    dialler_failed,
    dialler_pick,
    dialler_answered,
    dialler_borrows,
    dialler_connected,
)
from fastpath.table.registry cimport backend_state_t
from fastpath.table.table cimport backend_t, pool_t, table_vip, vip_pool, vip_t
from fastpath.udp.flow cimport flow_leave

cdef enum:
    BUSY_BYTES = 1048576   # of a receive buffer


cdef int socket_error(int fd) noexcept nogil:
    cdef int error = 0
    cdef socklen_t size = sizeof(error)

    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size)
    return error


# A socket connected to a backend: the fd, or -errno. The one place where upstream
# sockets of flows are made. From `source`, if it is not NULL.
cdef int upstream_open(const backend_t* b, const addr_t* source) noexcept nogil:
    cdef sockaddr_storage name
    cdef socklen_t size = backend_sockaddr(b, &name)
    cdef int fd, failed

    if b.path != NULL:  # of a pool that serves TCP, too
        return -EAFNOSUPPORT
    fd = socket(name.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if fd == -1:
        return -errno
    if source != NULL and socket_borrow(fd, source) < 0 or (
        connect(fd, <sockaddr*>&name, size) == -1
    ):
        failed = -errno
        close(fd)
        return failed
    return fd


# The same, from the client's address where the vip keeps it, and where that can be.
cdef int flow_socket(flows_t* fs, flow_t* f, const backend_t* b) noexcept nogil:
    cdef const vip_t* v = table_vip(fs.c, f.vip.slot)
    cdef const addr_t* client = &f.key.client
    cdef int fd

    if v == NULL or not (v.keep_near if f.near else v.keep_far) or (
        not dialler_borrows(client, b)
    ):
        return upstream_open(b, NULL)
    fd = upstream_open(b, client)
    if fd != -EPERM and fd != -EADDRNOTAVAIL:
        return fd
    fs.c.stats.unkept += 1
    return upstream_open(b, NULL)


# Connect to `b`, which counts the flow as active. Return 0 or -errno.
cdef int flow_connect(flows_t* fs, flow_t* f, const backend_t* b) noexcept nogil:
    cdef uint64_t tag = tag_make(TAG_FLOW, f.slot.index, f.slot.generation)
    cdef int fd, failed

    f.dial.began_us = <uint32_t>clock_us()
    fd = flow_socket(fs, f, b)
    if fd < 0:
        return fd
    # Level-triggered: what a turn leaves is reported again. Where most sockets have one
    # datagram, to find each of them empty would cost more than that.
    failed = poller_add(&fs.c.poller, fd, EPOLLIN, tag)
    if failed < 0:
        close(fd)
        return failed
    f.fd = fd
    f.backend = b.state
    f.backend_stats = backend_stats(&fs.c.stats, b.state.slot)
    f.fresh = 1
    f.proven = 0
    f.most = 1
    return 0


cdef bint flow_steer(flows_t* fs, flow_t* f) noexcept nogil:
    cdef const vip_t* v = table_vip(fs.c, f.vip.slot)
    cdef const pool_t* pool = vip_pool(fs.c, v, f.near) if v != NULL else NULL
    cdef backend_state_t* backend
    cdef backend_t* b
    cdef int failed

    while True:
        b = NULL
        if pool != NULL:
            b = dialler_pick(fs.c, &f.dial, pool, f.pick, f.source)
        if b == NULL:
            f.reason = DROP_CONNECT_FAILED if f.dial.tries > 0 else DROP_NO_BACKEND
            return False
        if f.dial.tries > 0:
            f.vip_stats.retries += 1
        backend = b.state
        add_u32(&backend.active, 1)
        failed = flow_connect(fs, f, b)
        if failed == 0:
            f.stats.resteered += f.sent
            return True
        if not dialler_exhausted(-failed) and failed != -ENOSPC:  # of epoll
            dialler_failed(fs.c, &f.dial, pool, backend)
            sub_u32(&backend.active, 1)
            continue
        # Last: Python may give the slot of a backend without flows to another.
        sub_u32(&backend.active, 1)
        f.reason = DROP_NO_DESCRIPTORS
        return False


cdef void flow_failed(flows_t* fs, flow_t* f) noexcept nogil:
    cdef const vip_t* v = table_vip(fs.c, f.vip.slot)

    if f.backend != NULL:
        dialler_failed(
            fs.c, &f.dial, vip_pool(fs.c, v, f.near) if v != NULL else NULL,
            f.backend,
        )
    flow_leave(fs, f)


cdef void flow_answered(flows_t* fs, flow_t* f) noexcept nogil:
    cdef const vip_t* v = table_vip(fs.c, f.vip.slot)

    dialler_connected(fs.c, &f.dial, f.backend)
    dialler_answered(fs.c, f.backend)
    f.dial.tries = 0
    f.proven = 1
    if not f.answered and v != NULL:
        timer_arm(&fs.c.wheel, &f.timer, fs.c.now_ms + v.two_way_ms)
    f.answered = 1


cdef void flow_busy(flow_t* f) noexcept nogil:
    # Not from the beginning: most flows are a question and an answer, and three system
    # calls are a good part of what such a flow costs.
    f.busy = 1
    set_int(f.fd, SOL_UDP, UDP_GRO, 1)
    set_int(f.fd, SOL_SOCKET, SO_RXQ_OVFL, 1)
    datagram_room(f.fd, BUSY_BYTES)
