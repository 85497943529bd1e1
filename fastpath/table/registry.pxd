# What outlives a table: the state of backends and vips, found by a small number.
#
# A state has one address in memory for its whole life, so workers keep pointers to
# it; counters are found by the same number. Python's thread alone adds and removes.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.limit cimport sketch_t

cdef enum HEALTH:
    HEALTH_READY
    HEALTH_DRAINING    # no new relays
    HEALTH_DEAD        # none, and the live ones were reset

# One cache line. All of it balancing state, shared by the workers: read at a pick,
# written once or twice in the life of a relay, never while bytes move.
cdef struct backend_state_t:
    uint32_t active            # atomic; relays dialling or flowing; workers
    uint32_t health            # atomic; HEALTH; Python
    uint32_t failures          # atomic; dials failed in a row; workers
    uint32_t ejections         # atomic; ejected in a row, for the back-off; workers
    uint64_t ejected_until_ms  # atomic; workers
    uint64_t up_since_ms       # atomic; last recovery, 0 = none; workers and Python
    uint32_t slot
    uint32_t spare[7]

cdef struct vip_state_t:
    uint32_t  active           # atomic; live relays; workers
    uint32_t  next             # atomic; of round robin and of ties of least; workers
    uint64_t  recent           # atomic; see window_add; workers
    sketch_t* sketch           # owned; NULL until a table limits by source
    uint32_t  slot
    uint32_t  spare[9]

cdef class Registry:
    cdef dict backend_slots    # (host, port) -> slot
    cdef dict vip_slots        # (host, port) -> slot
    cdef dict users            # slot of a backend -> pools that name it
    cdef list backend_chunks   # addresses of chunks, as numbers
    cdef list vip_chunks
    cdef dict retired          # ordered set: keys of backends that no pool names
    cdef dict retired_vips     # likewise: keys of vips that no table names
    cdef list free_backends    # slots
    cdef list free_vips
    cdef uint32_t backend_count
    cdef uint32_t vip_count
    cdef uint64_t stamps       # given so far

    cdef backend_state_t* backend(self, uint32_t slot)
    cdef vip_state_t* vip(self, uint32_t slot)
    cdef uint32_t take_backend(self, tuple key) except *
    cdef void drop_backend(self, tuple key)
    cdef void tell(self, uint32_t slot, uint32_t health, uint64_t now_ms)
    cdef uint32_t named(self, key) except *
    cdef uint32_t take_vip(self, tuple key, bint by_source) except *
    cdef void drop_vip(self, tuple key)
    cdef uint64_t stamp(self)
