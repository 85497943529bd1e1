"""Doors.

A door that drains stays open, so that its flows live on, and until its vip goes or is
listened on anew: the kernel spreads clients over all sockets of an address, and with
one of them closed they would come to other workers, which do not know their flows.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memset

from fastpath.base.addr cimport addr_from_sockaddr, addr_t
from fastpath.base.linux.file cimport EPOLLIN, close
from fastpath.base.linux.socket cimport (
    getsockname,
    sockaddr,
    sockaddr_storage,
    socklen_t,
)
from fastpath.base.poller cimport TAG_DOOR, poller_add, poller_remove, tag_make
from fastpath.base.slab cimport slab_count, slab_find, slab_give, slab_take
from fastpath.table.listener cimport VIP_BY_ADDRESS
from fastpath.table.table cimport table_t, table_vip
from fastpath.udp.flow cimport flows_flush
from fastpath.udp.forward cimport forward_read
from fastpath.udp.state cimport FLOW_FREE, door_at, flow_at, flow_t

cdef enum:
    DOOR_ROUNDS = 4         # batches in a turn; then others have theirs
    STOP_ROUNDS = 64        # when it stops: what a receive buffer holds


cdef door_t* door_take(
    flows_t* fs, const listen_change_t* change, int fd
) noexcept nogil:
    cdef door_t* door = <door_t*>slab_take(&fs.doors)
    cdef sockaddr_storage name
    cdef socklen_t size = sizeof(name)
    cdef addr_t none

    if door == NULL:
        fs.c.stats.unwatched += 1
        close(fd)
        return NULL
    memset(&none, 0, sizeof(none))
    memset(&name, 0, sizeof(name))
    getsockname(fd, <sockaddr*>&name, &size)
    addr_from_sockaddr(&door.addr, &name)
    door.fd = fd
    door.vip = change.vip
    door.shared = change.shared
    door.wildcard = memcmp(door.addr.ip, none.ip, sizeof(none.ip)) == 0
    return door


# The sockets of the same address that drain make room: their flows go on with this one.
cdef void door_replace(flows_t* fs, door_t* door) noexcept nogil:
    cdef door_t* old
    cdef uint32_t i

    if fs.draining == 0:  # nearly always, where many vips come at once
        return
    for i in range(slab_count(&fs.doors)):
        old = door_at(fs, i)
        if not old.slot.live or not old.draining or old == door:
            continue
        if old.vip == door.vip and memcmp(&old.addr, &door.addr, sizeof(addr_t)) == 0:
            door_inherit(fs, door, old)


cdef void door_inherit(flows_t* fs, door_t* door, door_t* old) noexcept nogil:
    cdef flow_t* f
    cdef uint32_t i

    flows_flush(fs)
    for i in range(slab_count(&fs.slab)):
        f = flow_at(fs, i)
        if f.state != FLOW_FREE and f.door == old:
            f.door = door
            door.flows += 1
    close(old.fd)
    fs.draining -= 1
    slab_give(&fs.doors, old)


cdef bint door_watch(flows_t* fs, door_t* door) noexcept nogil:
    cdef uint64_t tag = tag_make(TAG_DOOR, door.slot.index, door.slot.generation)

    # Level-triggered: what a turn leaves is reported again.
    door.unwatched = poller_add(&fs.c.poller, door.fd, EPOLLIN, tag) < 0
    if door.unwatched:
        fs.c.stats.unwatched += 1
    return not door.unwatched


cdef bint door_start(flows_t* fs, door_t* door) noexcept nogil:
    door_replace(fs, door)
    return door_watch(fs, door)


cdef bint doors_resume(flows_t* fs) noexcept nogil:
    cdef bint waiting = False
    cdef uint32_t i

    for i in range(slab_count(&fs.doors)):
        if door_at(fs, i).slot.live and door_at(fs, i).unwatched:
            waiting |= not door_watch(fs, door_at(fs, i))
    return waiting


cdef void door_close(flows_t* fs, door_t* door) noexcept nogil:
    flows_flush(fs)  # by this very socket
    close(door.fd)
    door.fd = -1
    door.unwatched = 0
    fs.draining -= door.draining
    if door.flows == 0:
        slab_give(&fs.doors, door)
        return
    fs.sweeping = 1
    fs.sweep_next = 0


cdef void door_stop(flows_t* fs, door_t* door, bint drains) noexcept nogil:
    if fs.c.table != NULL:
        forward_read(fs, door, STOP_ROUNDS)
    if not drains:
        door_close(fs, door)
        return
    door.draining = 1
    fs.draining += 1
    # Whoever else reads there serves its clients from now on.
    if door.shared:
        poller_remove(&fs.c.poller, door.fd)
        door.unwatched = 0


cdef void door_event(flows_t* fs, uint32_t index, uint32_t generation) noexcept nogil:
    cdef door_t* door = <door_t*>slab_find(&fs.doors, index, generation)

    if door != NULL and door.fd != -1:
        forward_read(fs, door, DOOR_ROUNDS)


cdef void doors_table(flows_t* fs) noexcept nogil:
    cdef const table_t* table = <table_t*>fs.c.table
    cdef door_t* door
    cdef uint32_t i

    if table.left <= fs.swept:
        return
    fs.swept = table.generation
    for i in range(slab_count(&fs.doors) if fs.draining > 0 else 0):
        door = door_at(fs, i)
        if not door.slot.live or not door.draining or door.fd == -1:
            continue
        if door.vip != VIP_BY_ADDRESS and table_vip(fs.c, door.vip) == NULL:
            door_close(fs, door)
    fs.sweeping = slab_count(&fs.slab) > 0
    fs.sweep_next = 0
