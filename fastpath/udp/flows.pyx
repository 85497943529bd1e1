"""All flows of a worker: their memory, their number, and what ends many of them.

A flow holds a descriptor, so there are at most so many; a new one then ends one that
was idle for long.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpath.base.linux.file cimport close
from fastpath.base.linux.random cimport getrandom
from fastpath.base.mailbox cimport SLOT_ALL
from fastpath.base.slab cimport (
    KIND_FLOW,
    KIND_OTHER,
    slab_count,
    slab_fini,
    slab_init,
)
from fastpath.base.stats cimport (
    DROP_ENGINE_CLOSED,
    DROP_EVICTED,
    DROP_IDLE_TIMEOUT,
    DROP_RESET_BY_ADMIN,
    DROP_VIP_REMOVED,
)
from fastpath.base.timer cimport timer_arm
from fastpath.table.table cimport table_vip, vip_t
from fastpath.udp.arena cimport NONE_NEXT, arena_fini, arena_init
from fastpath.udp.flow cimport flow_drop, flow_leave
from fastpath.udp.index cimport index_fini, index_init
from fastpath.udp.state cimport (
    FLOW_FREE,
    door_at,
    door_t,
    flow_at,
    flow_t,
    room_t,
)
from fastpath.udp.unreachable cimport unreachable_fini, unreachable_init

cdef enum:
    EVICT_LOOKS = 32    # flows that are compared: nearly the oldest goes


cdef void flows_init(flows_t* fs, context_t* c, uint32_t most) noexcept nogil:
    cdef uint64_t secret = 0

    memset(fs, 0, sizeof(flows_t))
    fs.c = c
    fs.most = most
    slab_init(&fs.slab, sizeof(flow_t), KIND_FLOW)
    slab_init(&fs.doors, sizeof(door_t), KIND_OTHER)
    if getrandom(&secret, sizeof(secret), 0) != sizeof(secret):
        secret = c.seed
    index_init(&fs.index, secret)
    unreachable_init(&fs.unreachable)


cdef void flows_fini(flows_t* fs) noexcept nogil:
    cdef uint32_t i

    for i in range(slab_count(&fs.slab)):
        if flow_at(fs, i).state != FLOW_FREE:
            flow_drop(fs, flow_at(fs, i), DROP_ENGINE_CLOSED)
    for i in range(slab_count(&fs.doors)):
        if door_at(fs, i).slot.live and door_at(fs, i).fd != -1:
            close(door_at(fs, i).fd)
    slab_fini(&fs.slab)
    slab_fini(&fs.doors)
    index_fini(&fs.index)
    unreachable_fini(&fs.unreachable)
    if fs.room != NULL:
        arena_fini(&fs.room.arena)
    free(fs.room)
    fs.room = NULL
    free(fs.mouths)
    fs.mouths = NULL
    fs.mouth_room = 0


cdef bint flows_prepare(flows_t* fs) noexcept nogil:
    cdef room_t* room

    if fs.room != NULL:
        return True
    room = <room_t*>calloc(1, sizeof(room_t))
    if room == NULL:
        return False
    if arena_init(&room.arena) < 0:
        free(room)
        return False
    fs.room = room
    return True


cdef bint flow_evict(flows_t* fs) noexcept nogil:
    cdef uint32_t slots = slab_count(&fs.slab)
    cdef uint32_t seen = 0
    cdef flow_t* oldest = NULL
    cdef flow_t* f
    cdef uint32_t _i

    # Some from where the last look ended, as Redis does it: an order of all of them by
    # age would cost each datagram what this costs a new flow now and then.
    for _i in range(slots):
        fs.hand = fs.hand + 1 if fs.hand + 1 < slots else 0
        f = flow_at(fs, fs.hand)
        if f.state == FLOW_FREE or f.first != NONE_NEXT:
            continue
        if oldest == NULL or f.active_ms < oldest.active_ms:
            oldest = f
        seen += 1
        if seen == EVICT_LOOKS:
            break
    if oldest == NULL:
        return False
    flow_drop(fs, oldest, DROP_EVICTED)
    return True


# ---- For the worker.

cdef void flow_timer(flows_t* fs, flow_t* f) noexcept nogil:
    cdef const vip_t* v = table_vip(fs.c, f.vip.slot)
    cdef uint64_t deadline_ms

    if v == NULL:
        flow_drop(fs, f, DROP_VIP_REMOVED)
        return
    deadline_ms = f.active_ms + (v.two_way_ms if f.answered else v.one_way_ms)
    if deadline_ms <= fs.c.now_ms:
        flow_drop(fs, f, DROP_IDLE_TIMEOUT)
    else:
        timer_arm(&fs.c.wheel, &f.timer, deadline_ms)


cdef uint32_t flows_reset(
    flows_t* fs, uint32_t slot, uint32_t first, uint32_t count
) noexcept nogil:
    cdef uint32_t end = slab_count(&fs.slab)
    cdef flow_t* f
    cdef uint32_t i

    for i in range(first, first + count):
        if i >= end:
            return 0
        f = flow_at(fs, i)
        if f.state == FLOW_FREE:
            continue
        if slot == SLOT_ALL:
            flow_drop(fs, f, DROP_RESET_BY_ADMIN)
        elif f.backend != NULL and f.backend.slot == slot:
            flow_leave(fs, f)
    return first + count if first + count < end else 0


cdef void flows_sweep(flows_t* fs, uint32_t count) noexcept nogil:
    cdef uint32_t end = slab_count(&fs.slab)
    cdef uint32_t until = fs.sweep_next + count
    cdef flow_t* f
    cdef uint32_t i

    for i in range(fs.sweep_next, until if until < end else end):
        f = flow_at(fs, i)
        if f.state == FLOW_FREE:
            continue
        if f.door.fd == -1 or table_vip(fs.c, f.vip.slot) == NULL:
            flow_drop(fs, f, DROP_VIP_REMOVED)
    fs.sweep_next = until
    fs.sweeping = until < end
