# What flows are made of: see `flow` for their lives.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_t
from fastpath.base.linux.socket cimport sockaddr_in6
from fastpath.base.slab cimport slab_at, slab_count, slab_t, slot_t
from fastpath.base.stats cimport (
    DROP,
    backend_stats_t,
    udp_stats_t,
    vip_stats_t,
)
from fastpath.base.timer cimport timer_t
from fastpath.table.dialler cimport dial_t
from fastpath.table.registry cimport backend_state_t, vip_state_t
from fastpath.table.table cimport vip_t
from fastpath.udp.arena cimport ARENA_SLOTS, arena_t
from fastpath.udp.index cimport index_t, key_t
from fastpath.udp.outbox cimport outbox_t, target_t
from fastpath.udp.unreachable cimport unreachable_t

# A socket that clients send to.
cdef struct door_t:
    slot_t     slot          # first
    int        fd            # owned; -1 = closed: it ends with its last flow
    uint32_t   vip           # slot, or VIP_BY_ADDRESS
    addr_t     addr          # where it is bound
    uint8_t    wildcard      # to all addresses: each datagram tells which was dialled
    uint8_t    shared        # another process may read there
    uint8_t    draining      # no new flows
    uint8_t    heavy         # the last batch was of large datagrams or trains
    uint8_t    unwatched     # epoll had no room: tried again
    uint32_t   lost          # as the socket last said
    uint32_t   flows

# A socket that sends to clients from an address that is not ours, for the flows of one
# vip. It never receives.
cdef struct mouth_t:
    int        fd            # owned
    uint32_t   vip           # slot
    uint32_t   flows

cdef enum:
    FLOW_FREE
    FLOW_LIVE

cdef struct flow_t:
    slot_t            slot         # first
    timer_t           timer        # second, see slot_of_timer
    key_t             key
    uint32_t          first        # datagrams in the arena that wait to be forwarded,
    uint32_t          last         # ... NONE_NEXT = none
    uint64_t          generation   # of the table by which it was last found in order
    uint64_t          active_ms    # a datagram last came, from either side
    int               fd           # owned; connected to the backend; -1 = none
    uint8_t           state
    uint8_t           fresh        # nothing was sent to this backend yet
    uint8_t           sent         # something was passed on
    uint8_t           answered     # two-way
    uint8_t           proven       # by this backend
    uint8_t           busy         # its socket has the options for many datagrams
    uint8_t           by_source    # counted in the vip's sketch
    uint8_t           near         # its client is near, see vip_t
    uint8_t           reason       # DROP, if no backend is left
    uint8_t           no_trains[2]  # see outbox; up, down
    backend_state_t*  backend      # borrowed; NULL = none
    udp_stats_t*      stats        # borrowed, and so are the next two
    vip_stats_t*      vip_stats
    backend_stats_t*  backend_stats
    uint64_t          stamp        # of the pool that named the backend
    uint32_t          hash         # in the index
    uint32_t          lost         # by the upstream socket, as it last said
    uint32_t          turn         # of the loop, in which the backend last sent
    uint8_t           most         # datagrams to ask its socket for
    uint64_t          source       # hash of the client's address; limits
    uint64_t          pick         # for the ring
    vip_state_t*      vip          # borrowed
    door_t*           door         # borrowed
    mouth_t*          mouth        # borrowed; NULL = replies leave by the door
    dial_t            dial
    uint32_t          name_size
    sockaddr_in6      name         # of the client, as the kernel said it
    uint32_t          control_size
    char              control[40]  # source address of replies; see target_t

# What a worker needs once it has a vip of UDP.
cdef struct room_t:
    arena_t    arena
    outbox_t   outbox
    flow_t*    waiting[ARENA_SLOTS]  # flows with datagrams in the arena
    uint32_t   waiting_count

# All flows of one worker.
cdef struct flows_t:
    context_t*     c            # borrowed
    slab_t         slab
    slab_t         doors
    index_t        index
    room_t*        room         # owned; NULL until it is needed
    mouth_t**      mouths       # owned; by slot of the vip; NULL = none
    uint32_t       mouth_room
    unreachable_t  unreachable
    uint32_t       most         # flows
    uint32_t       draining     # doors that do
    uint32_t       hand         # where eviction looks next
    uint32_t       sweep_next   # flow that a sweep looks at next
    uint8_t        sweeping
    uint64_t       swept        # table_t.left as of the last sweep
    uint64_t       moved        # datagrams and trains received, from both sides

cdef inline flow_t* flow_at(flows_t* fs, uint32_t index) noexcept nogil:
    return <flow_t*>slab_at(&fs.slab, index)

cdef inline door_t* door_at(flows_t* fs, uint32_t index) noexcept nogil:
    return <door_t*>slab_at(&fs.doors, index)
