"""Replies of a turn are received from all flows first, and then sent with one system
call for each door: until then they lie in the arena, and flows_flush sends them.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastpath.base.slab cimport slab_find
from fastpath.base.stats cimport LOSS_OVERFLOW
from fastpath.udp.arena cimport (
    ARENA_SLOTS,
    arena_receive,
    arena_receive_one,
    arena_t,
    datagram_count,
    datagram_t,
)
from fastpath.udp.flow cimport flow_served, flows_flush
from fastpath.udp.outbox cimport outbox_add, peer_failed, target_t
from fastpath.udp.state cimport flow_t, room_t
from fastpath.udp.steer cimport flow_answered, flow_busy, flow_failed

cdef enum:
    REPLY_MOST = 16         # datagrams or trains of a flow in a turn
    REPLY_BUSY = 4


cdef void reply_target(flow_t* f, target_t* target) noexcept nogil:
    memset(target, 0, sizeof(target_t))
    target.fd = f.mouth.fd if f.mouth != NULL else f.door.fd
    target.name = &f.name
    target.name_size = f.name_size
    if f.control_size > 0:
        target.control = f.control
        target.control_size = f.control_size
    target.no_trains = &f.no_trains[1]
    target.stats = f.stats
    target.way = 1


# Put `n` datagrams that lie in the arena behind `used` into the outbox.
cdef void reply_keep(flows_t* fs, flow_t* f, uint32_t n) noexcept nogil:
    cdef room_t* room = fs.room
    cdef uint32_t first = room.arena.used
    cdef uint64_t bytes = 0
    cdef datagram_t* d
    cdef target_t target
    cdef uint32_t i

    reply_target(f, &target)
    room.arena.used += n
    for i in range(first, first + n):
        d = &room.arena.got[i]
        bytes += d.size
        f.stats.datagrams[1] += datagram_count(d)
        if d.segment > 0:
            f.stats.trains_received[1] += 1
        if d.lost != 0 and d.lost != f.lost:
            f.stats.dropped[<int>LOSS_OVERFLOW] += d.lost - f.lost
            f.lost = d.lost
    for i in range(first, first + n):
        d = &room.arena.got[i]
        while not outbox_add(&room.outbox, d, &target):
            flows_flush(fs)
            room.arena.used = first + n
    f.active_ms = fs.c.now_ms
    f.vip_stats.bytes[1] += bytes
    f.backend_stats.bytes[1] += bytes


# Read some of what the backend has sent. Return how many datagrams, or -errno.
cdef int reply_read(flows_t* fs, flow_t* f) noexcept nogil:
    cdef arena_t* arena = &fs.room.arena
    cdef uint32_t turn = <uint32_t>fs.c.stats.turns
    cdef uint32_t most = f.most
    cdef int n

    if arena.used + most > ARENA_SLOTS:
        flows_flush(fs)
        arena.used = 0
    # Most flows have one datagram at a time: to ask for more, or for what control
    # messages say of trains, costs as much again.
    if most == 1 and not f.busy:
        n = arena_receive_one(arena, f.fd, arena.used)
    else:
        n = arena_receive(arena, f.fd, arena.used, most)
    if n == <int>most and f.turn + 1 == turn and most < REPLY_MOST:
        f.most = most * 2  # what was left behind is reported again: it came by then
    elif 0 < n < <int>most:
        f.most = n
    f.turn = turn
    return n


cdef void reply_event(
    flows_t* fs, uint32_t index, uint32_t generation
) noexcept nogil:
    cdef flow_t* f = <flow_t*>slab_find(&fs.slab, index, generation)
    cdef int n

    # Without a socket it has left a backend in this very batch of events.
    if f == NULL or not flow_served(fs, f) or f.fd == -1:
        return
    n = reply_read(fs, f)
    if n < 0:
        if peer_failed(-n):
            flow_failed(fs, f)
        return
    if not f.proven:
        flow_answered(fs, f)
    fs.moved += <uint32_t>n
    reply_keep(fs, f, n)
    if n >= REPLY_BUSY and not f.busy:
        flow_busy(f)
