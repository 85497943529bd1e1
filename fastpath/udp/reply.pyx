"""Replies of a turn are received from all flows first, and then sent with one system
call for each door: until then they lie in the arena, and flows_flush sends them.
"""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastpath.base.linux.file cimport EPOLLERR
from fastpath.base.slab cimport run_push, slab_find, slab_reclaim
from fastpath.base.stats cimport LOSS_OVERFLOW
from fastpath.udp.arena cimport (
    ARENA_SLOTS,
    arena_receive,
    datagram_count,
    datagram_t,
)
from fastpath.udp.flow cimport flow_served, flows_flush
from fastpath.udp.outbox cimport outbox_add, peer_failed, target_t
from fastpath.udp.state cimport FLOW_FREE, room_t
from fastpath.udp.steer cimport flow_answered, flow_busy, flow_failed

cdef enum:
    REPLY_SLOTS = 4         # of a flow that is not busy
    REPLY_BUSY_SLOTS = 16
    REPLY_ROUNDS = 4        # then others have their turn


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


# Read what the backend has sent. Return 1 if there may be more, 0 if not, or -errno.
cdef int reply_read(flows_t* fs, flow_t* f) noexcept nogil:
    cdef room_t* room = fs.room
    cdef uint32_t most = REPLY_BUSY_SLOTS if f.busy else REPLY_SLOTS
    cdef int n

    if room.arena.used + most > ARENA_SLOTS:
        flows_flush(fs)
        room.arena.used = 0
    n = arena_receive(&room.arena, f.fd, room.arena.used, most)
    if n < 0:
        return n
    if not f.proven:
        flow_answered(fs, f)
    if n > 0:
        reply_keep(fs, f, n)
    if <uint32_t>n < most:
        return 0
    if not f.busy:
        flow_busy(f)
    return 1


cdef void reply_move(flows_t* fs, flow_t* f, bint failed) noexcept nogil:
    cdef uint32_t rounds = REPLY_ROUNDS
    cdef int got = 1

    # A socket with an error tells it when what came before has been read.
    while (got > 0 or (failed and got == 0)) and rounds > 0:
        got = reply_read(fs, f)
        if got == 0 and not failed:
            return
        rounds -= 1
    if got < 0:
        if peer_failed(-got):
            flow_failed(fs, f)
    else:
        run_push(&fs.c.run, &f.slot)


cdef void reply_event(
    flows_t* fs, uint32_t index, uint32_t generation, uint32_t events
) noexcept nogil:
    cdef flow_t* f = <flow_t*>slab_find(&fs.slab, index, generation)

    # Without a socket it has left a backend in this very batch of events.
    if f == NULL or not flow_served(fs, f) or f.fd == -1:
        return
    reply_move(fs, f, (events & EPOLLERR) != 0)


cdef void reply_run(flows_t* fs, flow_t* f) noexcept nogil:
    if f.state == FLOW_FREE:
        slab_reclaim(&fs.slab, &f.slot)
    elif flow_served(fs, f) and f.fd != -1:
        reply_move(fs, f, False)
