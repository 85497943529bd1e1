"""Letting clients of TCP in: by which address, and while there is room for them.

A peer in the networks that the vip trusts begins with a PROXY header, and has as long
to say it as a backend has to answer. It takes a place among the connections of the vip
at once, so that no more of them wait than may be served; the limits by source are held
to the address in the header. Of anybody else no byte is looked at.
"""

from libc.errno cimport EAGAIN, EPROTO
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.addr cimport addr_t, network_holds
from fastpath.balancer cimport balancer_hash, source_hash
from fastpath.dial cimport dial_event, dial_start, dial_timer
from fastpath.limit cimport sketch_enter, sketch_recent, window_add
from fastpath.linux.atomic cimport add_u32, store_u64
from fastpath.linux.file cimport (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLPRI,
    EPOLLRDHUP,
)
from fastpath.listener cimport socket_named
from fastpath.relay cimport (
    RELAY_DIALLING,
    RELAY_NAMING,
    SIDE_DOWN,
    relay_drop,
    relay_free,
    relay_new,
    relay_poll,
    relay_refuse,
    relays_vip,
    vip_leave,
)
from fastpath.stats cimport (
    DROP,
    DROP_HEADER_TIMEOUT,
    DROP_LIMIT_CONNECTIONS,
    DROP_LIMIT_RATE,
    DROP_LIMIT_SOURCE_CONNECTIONS,
    DROP_LIMIT_SOURCE_RATE,
    DROP_NO_BACKEND,
    DROP_NO_MEMORY,
    DROP_PROXY_PROTOCOL,
    DROP_RESET_BY_CLIENT,
    vip_stats,
)
from fastpath.table cimport BALANCE_RING
from fastpath.timer cimport timer_arm


# ---- Limits.

# A place among all clients of the vip; -1, or the DROP.
cdef int vip_enter(const vip_t* v) noexcept nogil:
    cdef uint32_t live = add_u32(&v.state.active, 1)

    if v.max_live > 0 and live > v.max_live:
        return DROP_LIMIT_CONNECTIONS
    return -1


# What depends on who the client is, and on when; -1, or the DROP.
cdef int vip_judge(
    const vip_t* v, uint64_t source, uint64_t now_ms, uint8_t* by_source
) noexcept nogil:
    cdef uint32_t now_s = <uint32_t>(now_ms // 1000)

    if v.max_live_source > 0:
        by_source[0] = 1
        if sketch_enter(v.state.sketch, source) > v.max_live_source:
            return DROP_LIMIT_SOURCE_CONNECTIONS
    if v.max_new > 0 and window_add(&v.state.recent, now_s) > v.max_new:
        return DROP_LIMIT_RATE
    if v.max_new_source > 0 and (
        sketch_recent(v.state.sketch, source, now_s) > v.max_new_source
    ):
        return DROP_LIMIT_SOURCE_RATE
    return -1


cdef int vip_admit(
    const vip_t* v, uint64_t source, uint64_t now_ms, uint8_t* by_source
) noexcept nogil:
    cdef int limit = vip_enter(v)
    return limit if limit >= 0 else vip_judge(v, source, now_ms, by_source)


# ---- Clients.

# Whether what the peer says about its client is believed.
cdef bint vip_trusts(const vip_t* v, const addr_t* peer) noexcept nogil:
    cdef uint32_t i

    for i in range(v.trusted_count):
        if network_holds(&v.trusted[i], peer):
            return True
    return False


# The address of the client is known. Return -1, or the DROP of a limit.
cdef int admit_judge(
    relays_t* rs, relay_t* r, const vip_t* v, const addr_t* client
) noexcept nogil:
    r.source = source_hash(client)
    if v.pool.balance == BALANCE_RING:
        r.hash = balancer_hash(v, client)
    return vip_judge(v, r.source, rs.now_ms, &r.by_source)


cdef void admit_open(
    relays_t* rs, int fd, uint32_t vip, const addr_t* client
) noexcept nogil:
    cdef vip_t* v = relays_vip(rs, vip)
    cdef bint trusted
    cdef relay_t* r
    cdef int limit

    if v == NULL:
        relay_refuse(rs, fd, vip, DROP_NO_BACKEND)
        return
    r = relay_new(rs, fd)
    if r == NULL:
        relay_refuse(rs, fd, vip, DROP_NO_MEMORY)
        return
    r.vip = v.state
    trusted = v.trusted_count > 0 and vip_trusts(v, client)
    limit = vip_enter(v)
    if limit < 0 and not trusted:
        limit = admit_judge(rs, r, v, client)
    if limit >= 0:
        vip_leave(r.vip, r.source, r.by_source)
        relay_refuse(rs, fd, vip, <DROP>limit)
        relay_free(rs, r)
        return
    vip_stats(rs.stats, vip).active += 1
    store_u64(&rs.stats.active, rs.stats.active + 1)
    if not trusted:
        dial_start(rs, r)
        return
    r.state = RELAY_NAMING
    timer_arm(rs.wheel, &r.timer, rs.now_ms + v.pool.connect_ms)
    # Most headers have come with the connection: client_first waits for them.
    if not admit_named(rs, r, False):
        relay_poll(rs, r, SIDE_DOWN, EPOLLIN)


# Read the header, if it is whole. Return False if the relay still waits for it. `last`:
# there is no more to come.
cdef bint admit_named(relays_t* rs, relay_t* r, bint last) noexcept nogil:
    cdef vip_t* v = relays_vip(rs, r.vip.slot)
    cdef addr_t client
    cdef int failed = socket_named(r.end[SIDE_DOWN].fd, rs.mover.scratch, &client)
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
        limit = admit_judge(rs, r, v, &client)
        if limit >= 0:
            relay_drop(rs, r, <DROP>limit)
        else:
            dial_start(rs, r)
    return True


cdef void admit_event(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil:
    if r.state == RELAY_DIALLING:
        dial_event(rs, r, side, events)
    elif r.state == RELAY_NAMING:
        if events & EPOLLERR:
            relay_drop(rs, r, DROP_RESET_BY_CLIENT)
            return
        if events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP):
            r.end[SIDE_DOWN].wary = 1
        admit_named(rs, r, events & (EPOLLRDHUP | EPOLLHUP) != 0)


cdef void admit_timer(relays_t* rs, relay_t* r) noexcept nogil:
    if r.state == RELAY_NAMING:
        relay_drop(rs, r, DROP_HEADER_TIMEOUT)
    else:
        dial_timer(rs, r)
