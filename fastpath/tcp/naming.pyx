"""Admission of TCP clients: by which address, and within which limits.

A peer in the networks that the vip trusts must begin with a PROXY header, and has as
long for it as a backend has to answer. The peer counts among the connections of the vip
at once, so that no more wait than may be served; the limits by source apply to the
address in the header. Bytes of other peers are not looked at.
"""

from libc.errno cimport EAGAIN, EPROTO, errno
from libc.stdint cimport uint32_t

from fastpath.base.addr cimport addr_from_sockaddr, addr_t
from fastpath.base.context cimport context_refuse
from fastpath.base.linux.atomic cimport store_u64
from fastpath.base.linux.file cimport EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLPRI, EPOLLRDHUP
from fastpath.base.linux.socket cimport (
    MSG_DONTWAIT,
    MSG_PEEK,
    getpeername,
    recv,
    sockaddr,
    sockaddr_storage,
    socklen_t,
)
from fastpath.base.stats cimport (
    DROP,
    DROP_HEADER_TIMEOUT,
    DROP_NO_BACKEND,
    DROP_NO_MEMORY,
    DROP_PROXY_PROTOCOL,
    DROP_RESET_BY_CLIENT,
    vip_stats,
)
from fastpath.base.timer cimport timer_arm
from fastpath.table.admission cimport vip_enter, vip_judge, vip_leave
from fastpath.table.balancer cimport balancer_hash, source_hash
from fastpath.table.networks cimport networks_hold
from fastpath.table.table cimport BALANCE_RING, pool_t, table_vip, vip_pool, vip_t
from fastpath.tcp.dial cimport dial_event, dial_start, dial_timer
from fastpath.tcp.proxyhead cimport PROXYHEAD_MOST, proxyhead_read
from fastpath.tcp.relay cimport (
    RELAY_DIALLING,
    RELAY_NAMING,
    SIDE_DOWN,
    relay_drop,
    relay_free,
    relay_new,
    relay_poll,
)


cdef int socket_named(int fd, char* scratch, addr_t* client) noexcept nogil:
    cdef ssize_t n = recv(fd, scratch, PROXYHEAD_MOST, MSG_PEEK | MSG_DONTWAIT)
    cdef sockaddr_storage name
    cdef socklen_t size = sizeof(name)
    cdef int taken

    if n == -1:
        return -errno
    if n == 0:
        return -EPROTO  # its end, before it began
    taken = proxyhead_read(scratch, <uint32_t>n, client)
    if taken < 0:
        return taken
    if recv(fd, scratch, taken, MSG_DONTWAIT) != taken:
        return -EPROTO  # cannot happen: they were seen a moment ago
    if client.family == 0:
        if getpeername(fd, <sockaddr*>&name, &size) == -1:
            return -errno
        addr_from_sockaddr(client, &name)
    return 0


# The address of the client is known. Return -1, or the DROP of a limit.
cdef int naming_judge(
    relays_t* rs, relay_t* r, const vip_t* v, const addr_t* client
) noexcept nogil:
    cdef const pool_t* pool

    r.near = networks_hold(&v.near, client)
    pool = vip_pool(rs.c, v, r.near)
    r.source = source_hash(client)
    if pool.balance == BALANCE_RING:
        r.hash = balancer_hash(v, pool, client)
    return vip_judge(v, r.source, rs.c.now_ms, &r.by_source)


cdef void naming_open(
    relays_t* rs, int fd, uint32_t vip, const addr_t* client
) noexcept nogil:
    cdef vip_t* v = table_vip(rs.c, vip)
    cdef bint trusted
    cdef relay_t* r
    cdef int limit

    if v == NULL:
        context_refuse(rs.c, fd, vip, DROP_NO_BACKEND)
        return
    r = relay_new(rs, fd)
    if r == NULL:
        context_refuse(rs.c, fd, vip, DROP_NO_MEMORY)
        return
    r.vip = v.state
    # Whether the peer must name its client in a PROXY header.
    trusted = networks_hold(&v.trusted, client)
    limit = vip_enter(v)
    if limit < 0 and not trusted:
        limit = naming_judge(rs, r, v, client)
    if limit >= 0:
        vip_leave(r.vip, r.source, r.by_source)
        context_refuse(rs.c, fd, vip, <DROP>limit)
        relay_free(rs, r)
        return
    vip_stats(&rs.c.stats, vip).active += 1
    store_u64(&rs.c.stats.active, rs.c.stats.active + 1)
    if not trusted:
        dial_start(rs, r)
        return
    r.state = RELAY_NAMING
    timer_arm(
        &rs.c.wheel, &r.timer, rs.c.now_ms + vip_pool(rs.c, v, False).connect_ms
    )
    # Most headers have come with the connection: client_first waits for them.
    if not naming_read(rs, r, False):
        relay_poll(rs, r, SIDE_DOWN, EPOLLIN)


# Read the header, if it is whole. Return False if the relay still waits for it. `last`:
# there is no more to come.
cdef bint naming_read(relays_t* rs, relay_t* r, bint last) noexcept nogil:
    cdef vip_t* v = table_vip(rs.c, r.vip.slot)
    cdef addr_t client
    cdef int failed = socket_named(r.end[SIDE_DOWN].fd, rs.c.mover.scratch, &client)
    cdef int limit

    if failed == -EAGAIN and not last:
        return False
    if failed == -EAGAIN or failed == -EPROTO:
        relay_drop(rs, r, DROP_PROXY_PROTOCOL)
    elif failed < 0:
        relay_drop(rs, r, DROP_RESET_BY_CLIENT)
    elif v == NULL:
        relay_drop(rs, r, DROP_NO_BACKEND)
    else:
        limit = naming_judge(rs, r, v, &client)
        if limit >= 0:
            relay_drop(rs, r, <DROP>limit)
        else:
            dial_start(rs, r)
    return True


cdef void naming_event(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil:
    if r.state == RELAY_DIALLING:
        dial_event(rs, r, side, events)
    elif r.state == RELAY_NAMING:
        if events & EPOLLERR:
            relay_drop(rs, r, DROP_RESET_BY_CLIENT)
            return
        if events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP):
            r.end[SIDE_DOWN].rdhup_seen = 1
        naming_read(rs, r, events & (EPOLLRDHUP | EPOLLHUP) != 0)


cdef void naming_timer(relays_t* rs, relay_t* r) noexcept nogil:
    if r.state == RELAY_NAMING:
        relay_drop(rs, r, DROP_HEADER_TIMEOUT)
    else:
        dial_timer(rs, r)
