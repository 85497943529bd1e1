"""Flows: how they begin, what a change of the table does to them, and how they end.

Memory is taken for a flow, none for a datagram of one that is there.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from fastpath.base.context cimport context_t
from fastpath.base.linux.atomic cimport load_u32, sub_u32
from fastpath.base.linux.datagram cimport (
    CMSG_DATA,
    CMSG_LEN,
    CMSG_SPACE,
    IPV6_PKTINFO,
    IP_PKTINFO,
    MEMINFO_DROPS,
    MEMINFO_VARS,
    SO_MEMINFO,
    cmsghdr,
    in6_pktinfo,
    in_pktinfo,
)
from fastpath.base.linux.debug cimport check
from fastpath.base.linux.file cimport close
from fastpath.base.linux.socket cimport (
    AF_INET,
    IPPROTO_IP,
    IPPROTO_IPV6,
    SOL_SOCKET,
    getsockopt,
    socklen_t,
)
from fastpath.base.slab cimport slab_give, slab_take
from fastpath.base.stats cimport (
    DROP_LIMIT_CONNECTIONS,
    DROP_NO_BACKEND,
    DROP_NO_DESCRIPTORS,
    DROP_NO_MEMORY,
    DROP_VIP_REMOVED,
    LOSS_LIMIT_CONNECTIONS,
    LOSS_NO_DESCRIPTORS,
    LOSS_NO_MEMORY,
    LOSS_OVERFLOW,
    udp_stats,
    vip_stats,
    vip_stats_t,
)
from fastpath.base.timer cimport timer_arm, timer_disarm
from fastpath.table.admission cimport vip_admit, vip_leave
from fastpath.table.balancer cimport balancer_hash, source_hash
from fastpath.table.dialler cimport dialler_backend
from fastpath.table.listener cimport VIP_BY_ADDRESS
from fastpath.table.registry cimport HEALTH_DEAD, backend_state_t
from fastpath.table.networks cimport networks_hold
from fastpath.table.table cimport pool_t, table_t, table_vip, vip_pool
from fastpath.udp.arena cimport NONE_NEXT
from fastpath.udp.index cimport (
    index_drop,
    index_next,
    index_put,
    key_same,
)
from fastpath.udp.mouth cimport mouth_give, mouth_take
from fastpath.udp.outbox cimport outbox_clear, outbox_send
from fastpath.udp.state cimport FLOW_FREE, FLOW_LIVE, flow_at, mouth_t

cdef void flows_flush(flows_t* fs) noexcept nogil:
    if fs.room == NULL or fs.room.outbox.count == 0:
        return
    outbox_send(&fs.room.outbox, False)
    outbox_clear(&fs.room.outbox)
    fs.room.arena.used = 0


# ---- Beginning.

cdef flow_t* flow_find(flows_t* fs, const key_t* key, uint32_t hash) noexcept nogil:
    cdef uint32_t at = hash
    cdef flow_t* f

    if fs.index.places == NULL:
        return NULL
    while True:
        at = index_next(&fs.index, hash, at)
        if fs.index.places[at].number == 0:
            return NULL
        f = flow_at(fs, fs.index.places[at].number - 1)
        if key_same(&f.key, key):
            return f
        at += 1


# Let replies say that they come from the address that was dialled, where the socket has
# several.
cdef void flow_sign(flow_t* f) noexcept nogil:
    cdef uint64_t words[5]
    cdef cmsghdr* c = <cmsghdr*>words
    cdef in_pktinfo v4
    cdef in6_pktinfo v6

    memset(words, 0, sizeof(words))
    if f.door.addr.family == AF_INET:
        memset(&v4, 0, sizeof(v4))
        memcpy(&v4.ipi_spec_dst, f.key.dialled.ip, 4)
        c.cmsg_level = IPPROTO_IP
        c.cmsg_type = IP_PKTINFO
        c.cmsg_len = CMSG_LEN(sizeof(v4))
        memcpy(CMSG_DATA(c), &v4, sizeof(v4))
        f.control_size = CMSG_SPACE(sizeof(v4))
    else:
        memset(&v6, 0, sizeof(v6))
        memcpy(&v6.ipi6_addr, f.key.dialled.ip, 16)
        if f.key.dialled.family == AF_INET:  # of a socket of both families
            memset(&v6.ipi6_addr, 0, 16)
            v6.ipi6_addr.s6_addr[10] = 0xff
            v6.ipi6_addr.s6_addr[11] = 0xff
            memcpy(&v6.ipi6_addr.s6_addr[12], f.key.dialled.ip, 4)
        c.cmsg_level = IPPROTO_IPV6
        c.cmsg_type = IPV6_PKTINFO
        c.cmsg_len = CMSG_LEN(sizeof(v6))
        memcpy(CMSG_DATA(c), &v6, sizeof(v6))
        f.control_size = CMSG_SPACE(sizeof(v6))
    memcpy(f.control, words, sizeof(words))


# Take the memory and the descriptor that a flow needs to be known. Return NULL if there
# are none: `loss` says of what.
cdef flow_t* flow_new(
    flows_t* fs, door_t* door, const vip_t* v, const key_t* key, uint32_t hash,
    int* loss,
) noexcept nogil:
    cdef mouth_t* mouth = NULL
    cdef flow_t* f

    if door.vip == VIP_BY_ADDRESS:
        mouth = mouth_take(fs, v.state.slot, &key.dialled)
        loss[0] = LOSS_NO_DESCRIPTORS
        if mouth == NULL:
            return NULL
    loss[0] = LOSS_NO_MEMORY
    f = <flow_t*>slab_take(&fs.slab)
    if f != NULL and index_put(&fs.index, hash, f.slot.index) < 0:
        slab_give(&fs.slab, f)
        f = NULL
    if f == NULL:
        mouth_give(fs, mouth)
        return NULL
    f.mouth = mouth
    f.door = door
    f.key = key[0]
    f.hash = hash
    f.state = FLOW_LIVE
    f.fd = -1
    f.first = NONE_NEXT
    f.last = NONE_NEXT
    return f


cdef bint flow_admit(
    flows_t* fs, const vip_t* v, const addr_t* client, admitted_t* a, int* loss
) noexcept nogil:
    cdef int limit

    a.source = source_hash(client)
    a.by_source = 0
    limit = vip_admit(v, a.source, fs.c.now_ms, &a.by_source)
    if limit < 0:
        return True
    loss[0] = LOSS_LIMIT_CONNECTIONS + (limit - DROP_LIMIT_CONNECTIONS)
    vip_stats(&fs.c.stats, v.state.slot).refused[limit] += 1
    vip_leave(v.state, a.source, a.by_source)
    return False


cdef flow_t* flow_open(
    flows_t* fs, door_t* door, const vip_t* v, const key_t* key, uint32_t hash,
    const admitted_t* a, int* loss,
) noexcept nogil:
    cdef context_t* c = fs.c
    cdef bint near = networks_hold(&v.near, &key.client)
    cdef const pool_t* pool = vip_pool(c, v, near)
    cdef vip_stats_t* stats = vip_stats(&c.stats, v.state.slot)
    cdef flow_t* f = flow_new(fs, door, v, key, hash, loss)

    if f == NULL:
        if loss[0] == LOSS_NO_DESCRIPTORS:
            stats.refused[<int>DROP_NO_DESCRIPTORS] += 1
        else:
            stats.refused[<int>DROP_NO_MEMORY] += 1
        vip_leave(v.state, a.source, a.by_source)
        return NULL
    f.vip = v.state
    f.near = near
    f.source = a.source
    f.by_source = a.by_source
    f.pick = balancer_hash(v, pool, &key.client)
    f.stamp = pool.stamp
    f.generation = (<table_t*>c.table).generation
    f.active_ms = c.now_ms
    f.reason = DROP_NO_BACKEND
    f.vip_stats = stats
    f.stats = udp_stats(&c.stats, v.state.slot)
    door.flows += 1
    if door.wildcard and f.mouth == NULL:
        flow_sign(f)
    stats.accepted += 1
    stats.active += 1
    c.stats.flows += 1
    c.stats.flows_total += 1
    timer_arm(&c.wheel, &f.timer, c.now_ms + v.one_way_ms)
    return f


# ---- Ending.

# What the receive buffer of the upstream socket has lost, in so far as no datagram has
# told us already.
cdef void flow_count_lost(flow_t* f) noexcept nogil:
    cdef uint32_t info[MEMINFO_VARS]
    cdef socklen_t size = sizeof(info)

    if getsockopt(f.fd, SOL_SOCKET, SO_MEMINFO, info, &size) == -1:
        return
    if size > MEMINFO_DROPS * sizeof(uint32_t):
        f.stats.dropped[<int>LOSS_OVERFLOW] += info[MEMINFO_DROPS] - f.lost


cdef void flow_leave(flows_t* fs, flow_t* f) noexcept nogil:
    cdef backend_state_t* backend = f.backend

    if f.fd != -1:
        flow_count_lost(f)
        close(f.fd)  # epoll forgets it with that
        f.fd = -1
    f.lost = 0
    f.busy = 0
    f.no_trains[0] = 0
    f.backend = NULL
    f.backend_stats = NULL
    # Last: Python may give the slot of a backend without flows to another.
    if backend != NULL:
        sub_u32(&backend.active, 1)


# One flow of a door less; a closed door ends with its last one.
cdef void door_leave(flows_t* fs, door_t* door) noexcept nogil:
    door.flows -= 1
    if door.flows == 0 and door.fd == -1:
        slab_give(&fs.doors, door)


cdef void flow_drop(flows_t* fs, flow_t* f, DROP reason) noexcept nogil:
    check(f.state != FLOW_FREE)
    flows_flush(fs)  # it may name the client of this flow
    timer_disarm(&f.timer)
    if not f.sent:
        f.vip_stats.refused[<int>reason] += 1
    else:
        f.vip_stats.closed[<int>reason] += 1
    f.vip_stats.active -= 1
    fs.c.stats.flows -= 1
    index_drop(&fs.index, f.hash, f.slot.index)
    flow_leave(fs, f)
    mouth_give(fs, f.mouth)
    door_leave(fs, f.door)
    f.state = FLOW_FREE
    vip_leave(f.vip, f.source, f.by_source)
    slab_give(&fs.slab, f)


cdef bint flow_served(flows_t* fs, flow_t* f) noexcept nogil:
    if f.generation == (<table_t*>fs.c.table).generation or (
        table_vip(fs.c, f.vip.slot) != NULL
    ):
        return True
    flow_drop(fs, f, DROP_VIP_REMOVED)
    return False


cdef bint flow_check(flows_t* fs, flow_t* f) noexcept nogil:
    cdef const table_t* table = <table_t*>fs.c.table
    cdef const pool_t* pool
    cdef const vip_t* v

    if not flow_served(fs, f):
        return False
    # Only what a change of the table may have changed, and only once for each.
    if f.generation != table.generation:
        f.generation = table.generation
        v = table_vip(fs.c, f.vip.slot)
        f.near = networks_hold(&v.near, &f.key.client)
        pool = vip_pool(fs.c, v, f.near)
        if pool.stamp != f.stamp:
            f.stamp = pool.stamp
            f.pick = balancer_hash(v, pool, &f.key.client)
            if f.backend != NULL and dialler_backend(pool, f.backend) == NULL:
                flow_leave(fs, f)
    if f.backend != NULL and load_u32(&f.backend.health) == HEALTH_DEAD:
        flow_leave(fs, f)
    return True
