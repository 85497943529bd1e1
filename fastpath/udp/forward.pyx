"""A batch of datagrams from clients: sorted by flow, then sent flow by flow.

Datagrams of one flow keep their order. One that cannot be sent because the backend
refuses is sent to another one, as long as tries last.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from fastpath.base.addr cimport addr_from_sockaddr
from fastpath.base.linux.socket cimport (
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    send,
    sockaddr_storage,
    IPPROTO_UDP,
)
from fastpath.base.stats cimport (
    DROP,
    DROP_CONNECT_FAILED,
    DROP_NO_DESCRIPTORS,
    LOSS_DRAINING,
    LOSS_NO_BACKEND,
    LOSS_NO_DESCRIPTORS,
    LOSS_OVERFLOW,
    LOSS_REFUSED,
    udp_stats,
    udp_stats_t,
)
from fastpath.table.listener cimport VIP_BY_ADDRESS
from fastpath.table.table cimport (
    SLOT_NONE,
    table_find,
    table_t,
    table_vip,
    vip_pool,
    vip_t,
)
from fastpath.udp.arena cimport (
    ARENA_SLOTS,
    NONE_NEXT,
    arena_receive,
    datagram_count,
    datagram_t,
)
from fastpath.udp.flow cimport (
    admitted_t,
    flow_admit,
    flow_check,
    flow_drop,
    flow_find,
    flow_open,
    flows_flush,
)
from fastpath.udp.flows cimport flow_evict
from fastpath.udp.index cimport index_hash, key_t
from fastpath.udp.outbox cimport (
    loss_of,
    outbox_add,
    outbox_clear,
    outbox_lose,
    outbox_send,
    outbox_turn,
    peer_failed,
    target_t,
)
from fastpath.udp.state cimport flow_t, room_t
from fastpath.udp.steer cimport flow_failed, flow_steer, socket_error
from fastpath.udp.unreachable cimport unreachable_tell

cdef enum:
    HEAVY_BYTES = 8192      # on average: then fewer are taken at once,
    HEAVY_SLOTS = 8         # ... and stay in the cache until they are sent


# ---- Sorting.

# What the datagram in slot `i` is between.
cdef void forward_key(
    const door_t* door, const datagram_t* d, const sockaddr_storage* name, key_t* key
) noexcept nogil:
    addr_from_sockaddr(&key.client, name)
    if door.vip == VIP_BY_ADDRESS:
        key.dialled = d.dialled
        return
    key.dialled = door.addr
    if door.wildcard and d.dialled.family != 0:
        key.dialled.family = d.dialled.family
        memcpy(key.dialled.ip, d.dialled.ip, 16)


# Slot of the vip that a client without a flow has dialled, or SLOT_NONE.
cdef inline uint32_t forward_vip(
    flows_t* fs, const door_t* door, const key_t* key
) noexcept nogil:
    if door.vip != VIP_BY_ADDRESS:
        return door.vip
    return table_find(<table_t*>fs.c.table, IPPROTO_UDP, &key.dialled)


# A flow for a client that has none. NULL: the datagram is lost, and counted.
cdef flow_t* forward_open(
    flows_t* fs, door_t* door, const key_t* key, uint32_t hash, uint32_t i
) noexcept nogil:
    cdef const datagram_t* d = &fs.room.arena.got[i]
    cdef uint32_t slot = forward_vip(fs, door, key)
    cdef const vip_t* v = table_vip(fs.c, slot) if slot != SLOT_NONE else NULL
    cdef udp_stats_t* stats
    cdef flow_t* f = NULL
    cdef admitted_t admitted
    cdef int loss = LOSS_DRAINING

    if v == NULL:
        fs.c.stats.no_vip += datagram_count(d)
        return NULL
    if not door.draining and flow_admit(fs, v, &key.client, &admitted, &loss):
        if fs.index.count >= fs.most and not flow_evict(fs):
            forward_waiting(fs)  # all are of this batch: send it, then one may go
            flow_evict(fs)
        f = flow_open(fs, door, v, key, hash, &admitted, &loss)
    if f == NULL:
        stats = udp_stats(&fs.c.stats, slot)
        stats.datagrams[0] += datagram_count(d)
        stats.dropped[loss] += datagram_count(d)
        return NULL
    memcpy(&f.name, fs.room.arena.names[i], sizeof(f.name))
    f.name_size = d.name_size
    return f


# Append the datagram in slot `i` to those of its flow.
cdef void forward_sort(flows_t* fs, door_t* door, uint32_t i) noexcept nogil:
    cdef room_t* room = fs.room
    cdef key_t key
    cdef uint32_t hash
    cdef flow_t* f

    forward_key(
        door, &room.arena.got[i], <sockaddr_storage*>room.arena.names[i], &key
    )
    hash = index_hash(&fs.index, &key)
    f = flow_find(fs, &key, hash)
    if f != NULL and f.first == NONE_NEXT and not flow_check(fs, f):
        f = NULL
    if f == NULL:
        f = forward_open(fs, door, &key, hash, i)
        if f == NULL:
            return
    if f.first == NONE_NEXT:
        f.first = i
        room.waiting[room.waiting_count] = f
        room.waiting_count += 1
    else:
        room.arena.got[f.last].next = i
    f.last = i


# ---- Sending.

# No backend takes the datagrams of `f` from `at` on: they are lost, and the flow ends.
cdef void forward_refuse(flows_t* fs, flow_t* f, uint32_t at) noexcept nogil:
    cdef room_t* room = fs.room
    cdef int loss = LOSS_NO_BACKEND
    if f.reason == DROP_CONNECT_FAILED:
        loss = LOSS_REFUSED
    elif f.reason == DROP_NO_DESCRIPTORS:
        loss = LOSS_NO_DESCRIPTORS
    outbox_lose(&room.outbox, loss)
    while at != NONE_NEXT:
        f.stats.dropped[loss] += datagram_count(&room.arena.got[at])
        at = room.arena.got[at].next
    f.first = NONE_NEXT
    # Told when it was counted, as in context_refuse; the slot is not used again yet.
    flow_drop(fs, f, <DROP>f.reason)
    if loss == LOSS_REFUSED:
        unreachable_tell(&fs.unreachable, &f.key, &f.name, fs.c.now_ms)


# Send what is in the outbox to the flow's backend, or to another one if that refuses.
# `error` is the refusal that is known already. Return False if none takes it.
cdef bint forward_post(flows_t* fs, flow_t* f, int error) noexcept nogil:
    cdef room_t* room = fs.room

    while True:
        if error != 0:
            flow_failed(fs, f)
        if f.backend == NULL:
            if not flow_steer(fs, f):
                return False
            outbox_turn(&room.outbox, f.fd, f.no_trains)
        error = outbox_send(&room.outbox, True)
        if error == 0 and f.fresh:
            # On the same host, and often within it, a closed port shows at once: while
            # the datagrams are at hand. Once for each backend that a flow is given.
            f.fresh = 0
            error = socket_error(f.fd)
            if not peer_failed(error):
                error = 0
            elif room.outbox.count > 0:
                room.outbox.next = 0
        if error == 0:
            f.sent = 1
            outbox_clear(&room.outbox)
            return True


# Forward what waits of a flow, which may be no more then.
cdef void forward_send(flows_t* fs, flow_t* f) noexcept nogil:
    cdef room_t* room = fs.room
    cdef uint32_t at = f.first
    cdef datagram_t* d = &room.arena.got[at]
    cdef target_t target
    cdef int error = 0
    cdef uint64_t bytes = forward_count(f, room, fs.c.now_ms)

    if f.backend == NULL:
        forward_renew(fs, f)
    elif d.next == NONE_NEXT and d.segment == 0 and not f.fresh:
        # The common case by far, without the outbox.
        error = forward_one(f, d)
        if error == 0:
            f.first = NONE_NEXT
            f.backend_stats.bytes[0] += bytes
            return
    memset(&target, 0, sizeof(target))
    target.fd = f.fd
    target.no_trains = &f.no_trains[0]
    target.stats = f.stats
    while at != NONE_NEXT:
        d = &room.arena.got[at]
        if outbox_add(&room.outbox, d, &target):
            at = d.next
            if at != NONE_NEXT:
                continue
        if not forward_post(fs, f, error):
            forward_refuse(fs, f, at)
            return
        error = 0
        target.fd = f.fd
    f.first = NONE_NEXT
    f.backend_stats.bytes[0] += bytes


# A single datagram. Return 0, or the errno of a backend that refuses.
cdef int forward_one(flow_t* f, const datagram_t* d) noexcept nogil:
    cdef int error

    while send(f.fd, d.data, d.size, MSG_DONTWAIT | MSG_NOSIGNAL) == -1:
        error = errno
        if peer_failed(error):
            return error
        if error != EINTR:
            f.stats.dropped[loss_of(error)] += 1
            break
    return 0


# Datagrams of a client that has lost its backend are a new attempt.
cdef void forward_renew(flows_t* fs, flow_t* f) noexcept nogil:
    cdef const vip_t* v = table_vip(fs.c, f.vip.slot)

    if v != NULL and f.dial.tries >= vip_pool(fs.c, v, f.near).tries:
        f.dial.tries = 0


# Return the bytes that wait.
cdef uint64_t forward_count(
    flow_t* f, const room_t* room, uint64_t now_ms
) noexcept nogil:
    cdef uint32_t at = f.first
    cdef const datagram_t* d
    cdef uint64_t bytes = 0

    while at != NONE_NEXT:
        d = &room.arena.got[at]
        bytes += d.size
        f.stats.datagrams[0] += datagram_count(d)
        if d.segment > 0:
            f.stats.trains_received[0] += 1
        at = d.next
    f.active_ms = now_ms
    f.vip_stats.bytes[0] += bytes
    return bytes


cdef void forward_waiting(flows_t* fs) noexcept nogil:
    cdef uint32_t i

    for i in range(fs.room.waiting_count):
        forward_send(fs, fs.room.waiting[i])
    fs.room.waiting_count = 0


# ---- A door.

# Datagrams that the door's receive buffer has lost.
cdef void forward_count_lost(
    flows_t* fs, door_t* door, const datagram_t* d
) noexcept nogil:
    cdef uint32_t lost = d.lost - door.lost

    door.lost = d.lost
    if door.vip != VIP_BY_ADDRESS:
        udp_stats(&fs.c.stats, door.vip).dropped[<int>LOSS_OVERFLOW] += lost
    else:
        fs.c.stats.udp_overflow += lost


cdef bint forward_read(flows_t* fs, door_t* door, uint32_t rounds) noexcept nogil:
    cdef room_t* room = fs.room
    cdef uint32_t most, i
    cdef uint64_t bytes
    cdef int n

    flows_flush(fs)  # the arena is needed
    while rounds > 0 and door.fd != -1:
        most = HEAVY_SLOTS if door.heavy else ARENA_SLOTS
        n = arena_receive(&room.arena, door.fd, 0, most)
        if n <= 0:
            return False
        bytes = 0
        fs.moved += <uint32_t>n
        for i in range(<uint32_t>n):
            bytes += room.arena.got[i].size
            if room.arena.got[i].lost != 0 and room.arena.got[i].lost != door.lost:
                forward_count_lost(fs, door, &room.arena.got[i])
            forward_sort(fs, door, i)
        forward_waiting(fs)
        door.heavy = bytes > <uint64_t>n * HEAVY_BYTES
        if <uint32_t>n < most:
            return False
        rounds -= 1
    return True
