# A TCP relay: a client, a backend, and the two halves between them.
#
#     accepted -> NAMING -> DIALLING -> FLOWING -> dropped
#            |                ^  |    ^
#            +----------------+  +----+  next backend, as long as no byte has moved
#
# NAMING: a peer that the vip trusts owes the PROXY header that names its client.
#
# `relay_drop` is the one way out: it closes both sockets, counts the reason and
# frees the slot.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from fastpath.base.context cimport context_t
from fastpath.base.stats cimport DROP
from fastpath.base.timer cimport timer_t
from fastpath.table.registry cimport backend_state_t, vip_state_t
from fastpath.table.table cimport vip_t
from fastpath.tcp.half cimport MOVE, end_t, half_t

cdef enum:
    RELAY_CHUNK = 256    # relays allocated at once
    RELAY_NONE = 0xffffffff

# Which end of a relay; half[s] takes from side s.
ctypedef int side_t

cdef enum:
    SIDE_DOWN            # the client
    SIDE_UP              # the backend

cdef inline side_t side_other(side_t side) noexcept nogil:
    return SIDE_UP if side == SIDE_DOWN else SIDE_DOWN

cdef enum RELAY_STATE:
    RELAY_FREE
    RELAY_NAMING
    RELAY_DIALLING
    RELAY_FLOWING

cdef struct relay_t:
    timer_t           timer        # first: the wheel's pointer is the relay's
    half_t            half[2]
    end_t             end[2]
    uint64_t          active_ms    # bytes last moved
    uint64_t          dialled_us
    uint64_t          source       # hash of the client's address; limits and ring
    uint64_t          hash         # for the ring
    backend_state_t*  backend      # borrowed; NULL = none picked
    vip_state_t*      vip          # borrowed
    uint32_t          index        # of this slot
    uint32_t          generation   # of this slot, 28 bits
    uint32_t          next         # free list or run queue; RELAY_NONE = last
    uint32_t          tried[3]     # slots of backends that failed
    uint8_t           state        # RELAY_STATE
    uint8_t           tries
    uint8_t           queued       # in the run queue
    uint8_t           by_source    # counted in the vip's sketch
    uint8_t           reason       # DROP of the last failed dial

# All relays of one worker.
cdef struct relays_t:
    context_t*  c            # borrowed
    relay_t**   chunks       # owned
    uint32_t    chunk_count
    uint32_t    chunk_room
    uint32_t    free         # head of the free list
    uint32_t    run_first
    uint32_t    run_last

cdef void relays_init(relays_t* rs, context_t* c) noexcept nogil

# Drops what is still live.
cdef void relays_fini(relays_t* rs) noexcept nogil

cdef inline relay_t* relay_at(relays_t* rs, uint32_t index) noexcept nogil:
    return &rs.chunks[index // RELAY_CHUNK][index % RELAY_CHUNK]

# ---- For naming and dial, which bring relays from accept to FLOWING.

# A zeroed relay, still RELAY_FREE, that holds the client `fd`; NULL = no memory.
cdef relay_t* relay_new(relays_t* rs, int fd) noexcept nogil

# Give back a slot whose relay was dropped or never started.
cdef void relay_free(relays_t* rs, relay_t* r) noexcept nogil

# Close an end (or none). With `reset`, its peer gets an RST instead of a FIN.
cdef void end_close(end_t* e, bint reset) noexcept nogil

# The one way out for a relay: close both ends, count the reason, free the slot.
cdef void relay_drop(relays_t* rs, relay_t* r, DROP reason) noexcept nogil

# Watch one end for `events`, edge-triggered, and always for its FIN and urgent marks.
# Return False if that failed and the relay is no more.
cdef bint relay_poll(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil

# The half that takes from `source` did `move` and gave `moved` bytes: count, queue,
# watch or drop. Return False if the relay is no more.
cdef bint relay_moved(
    relays_t* rs, relay_t* r, side_t source, MOVE move, uint64_t moved
) noexcept nogil

# Move what can be moved from `source`. Return False if the relay is no more.
cdef bint relay_move(relays_t* rs, relay_t* r, side_t source) noexcept nogil

# ---- For the worker; relays that are FLOWING.

# The poller reported `events` of one end.
cdef void relay_event(
    relays_t* rs, relay_t* r, side_t side, uint32_t events
) noexcept nogil

# The timer fired: idle for too long, or armed anew. `v` may be NULL.
cdef void relay_timer(relays_t* rs, relay_t* r, const vip_t* v) noexcept nogil

# Go on with the halves that had their turn and were not finished.
cdef void relays_run(relays_t* rs) noexcept nogil

# Reset relays of the backend in `slot`, or SLOT_ALL, among `count` slots from
# `first`. Return the next slot to look at, or 0 when all were looked at.
cdef uint32_t relays_reset(
    relays_t* rs, uint32_t slot, uint32_t first, uint32_t count
) noexcept nogil
