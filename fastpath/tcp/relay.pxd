# A TCP relay: a client, a backend, and the two halves between them.
#
#     accepted -> NAMING -> DIALLING -> FLOWING -> dropped
#            |                ^  |    ^
#            +----------------+  +----+  next backend, as long as no byte has moved
#
# NAMING: a peer that the vip trusts must send the PROXY header that names its client.
#
# `relay_drop` is the one way out: it closes both sockets, counts the reason and
# frees the slot.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from fastpath.base.context cimport context_t
from fastpath.base.end cimport end_t
from fastpath.base.half cimport MOVE, half_t
from fastpath.base.slab cimport slab_at, slab_t, slot_t
from fastpath.base.stats cimport DROP
from fastpath.base.timer cimport timer_t
from fastpath.table.dialler cimport dial_t
from fastpath.table.registry cimport backend_state_t, vip_state_t
from fastpath.table.table cimport vip_t

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
    slot_t            slot         # first
    timer_t           timer        # second, see slot_of_timer
    half_t            half[2]
    end_t             end[2]
    uint64_t          active_ms    # bytes last moved
    uint64_t          source       # hash of the client's address; limits and ring
    uint64_t          hash         # for the ring
    backend_state_t*  backend      # borrowed; NULL = none picked
    vip_state_t*      vip          # borrowed
    dial_t            dial
    uint8_t           state        # RELAY_STATE
    uint8_t           by_source    # counted in the vip's sketch
    uint8_t           near         # its client is near, see vip_t
    uint8_t           reason       # DROP of the last failed dial

# All relays of one worker.
cdef struct relays_t:
    context_t*  c            # borrowed
    slab_t      slab

cdef void relays_init(relays_t* rs, context_t* c) noexcept nogil

# Drops what is still live.
cdef void relays_fini(relays_t* rs) noexcept nogil

cdef inline relay_t* relay_at(relays_t* rs, uint32_t index) noexcept nogil:
    return <relay_t*>slab_at(&rs.slab, index)

# ---- For naming and dial, which bring relays from accept to FLOWING.

# A zeroed relay, still RELAY_FREE, that holds the client `fd`; NULL = no memory.
cdef relay_t* relay_new(relays_t* rs, int fd) noexcept nogil

# Give back the slot of a relay that never started.
cdef void relay_free(relays_t* rs, relay_t* r) noexcept nogil

# The one way out for a relay: close both ends, count the reason, free the slot.
cdef void relay_drop(relays_t* rs, relay_t* r, DROP reason) noexcept nogil

# Watch one end for `events`, edge-triggered, and always for its FIN and urgent data.
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

# Go on with the halves that had their turn and were not finished: `r` comes out of the
# run queue, and may have been dropped meanwhile.
cdef void relay_run(relays_t* rs, relay_t* r) noexcept nogil

# Reset relays of the backend in `slot`, or SLOT_ALL, among `count` slots from `first`;
# if `silent`, only those whose client waits for the first byte of an answer. Return the
# next slot to look at, or 0 when all were looked at.
cdef uint32_t relays_reset(
    relays_t* rs, uint32_t slot, bint silent, uint32_t first, uint32_t count
) noexcept nogil
