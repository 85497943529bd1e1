# What outlives a table: the state of backends, pools, vips and upstreams, found by a
# small number.
#
# A state has one address in memory for its whole life, so workers keep pointers to
# it; counters are found by the same number. Python's thread alone adds and removes.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.limit cimport sketch_t

cdef enum:
    STATE_BYTES = 64       # one cache line: workers that write neighbours never meet
    SLOT_END = 0xffffffff

cdef enum HEALTH:
    HEALTH_READY
    HEALTH_DRAINING    # no new relays
    HEALTH_DEAD        # none, and the live ones were reset

# What every state begins with. The last three are Python's alone.
cdef struct state_t:
    uint32_t active            # atomic; uses of the slot that remain; workers
    uint32_t slot
    uint32_t users             # blocks that name the key
    uint32_t next              # in the line that the slot stands in; SLOT_END = last
    uint32_t before            # likewise; SLOT_END = first

# Balancing state, shared by the workers: read at a pick, written once or twice in the
# life of a relay, never while bytes move.
cdef struct backend_state_t:
    uint32_t active            # atomic; relays dialling or flowing, flows; workers
    uint32_t slot
    uint32_t line[3]           # see state_t
    uint32_t health            # atomic; HEALTH; Python
    uint32_t failures          # atomic; dials failed in a row; workers
    uint32_t ejections         # atomic; ejected in a row, for the back-off; workers
    uint64_t ejected_until_ms  # atomic; workers
    uint64_t up_since_ms       # atomic; last recovery, 0 = none; workers and Python

cdef struct pool_state_t:
    uint32_t active            # never counted: nothing holds on to a pool
    uint32_t slot
    uint32_t line[3]
    uint32_t next              # atomic; of round robin and ties of least; workers

cdef struct vip_state_t:
    uint32_t  active           # atomic; live relays or flows; workers
    uint32_t  slot
    uint32_t  line[3]
    uint64_t  recent           # atomic; see window_add; workers
    sketch_t* sketch           # owned; NULL until a table limits by source

cdef struct upstream_state_t:
    uint32_t active            # atomic; connections; workers
    uint32_t slot
    uint32_t line[3]

# Slots in a row, linked through their states: to move one takes no memory, so nothing
# is lost where there is none.
cdef struct line_t:
    uint32_t first             # SLOT_END = empty
    uint32_t last

# Numbers for keys of one kind, each with a state. A slot is named by blocks, or stands
# in one of three lines:
#
#   unused -> (named) -> retired -> freed -> unused
#
# A freed slot has no key any more; it is unused when its counters are forgotten, too.
cdef class Numbers:
    cdef readonly dict slots   # key -> slot
    cdef list keys             # slot -> key; None = not given
    cdef char** chunks         # owned, and the chunks of states in it
    cdef uint32_t chunk_count
    cdef line_t retired        # no block names the key; the longest retired first
    cdef line_t freed
    cdef line_t unused
    cdef uint64_t dropped      # keys that retired since the last collect
    cdef uint32_t most

    cdef void* state(self, uint32_t slot) noexcept
    cdef uint32_t take(self, key) except? 0xffffffff
    cdef int _new_slot(self) except -1
    cdef void drop(self, uint32_t slot) noexcept
    cdef object key(self, uint32_t slot)
    cpdef bint named(self, key) except *
    cdef void gather(self) noexcept
    cdef void release(self) noexcept
    cdef void _link(self, line_t* line, uint32_t slot) noexcept
    cdef void _unlink(self, line_t* line, uint32_t slot) noexcept

cdef class Registry:
    cdef readonly Numbers backends   # by (host, port)
    cdef readonly Numbers pools      # by name, or by what has the pool to itself
    cdef readonly Numbers vips       # by (protocol, host, port)
    cdef readonly Numbers upstreams  # by name
    cdef uint64_t stamps             # given so far

    cdef backend_state_t* backend(self, uint32_t slot) noexcept
    cdef uint32_t take_backend(self, tuple key) except? 0xffffffff
    cdef void tell(self, uint32_t slot, uint32_t health, uint64_t now_ms) noexcept
    cdef uint32_t named(self, key) except? 0xffffffff
    cdef uint32_t take_vip(self, tuple key, bint by_source) except? 0xffffffff
    cdef uint64_t stamp(self)

    # Free slots that nothing uses any more: they stand in `freed` of their Numbers.
    cdef void gather(self) noexcept

    # Their counters are forgotten: others may have them.
    cdef void release(self) noexcept
