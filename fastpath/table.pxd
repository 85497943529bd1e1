# The forwarding table: vip -> pool -> backends. Immutable once published (rule 8).
#
# Its blocks belong to Python objects, made and freed by Python's thread alone;
# unchanged vips and pools are the same blocks in the next table. Workers borrow the
# table until their next quiescent point and keep no pointer into it beyond that.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastpath.addr cimport addr_t
from fastpath.listener cimport listen_options_t
from fastpath.registry cimport Registry, backend_state_t, vip_state_t
from fastpath.ring cimport ring_t

cdef enum BALANCE:
    BALANCE_RANDOM
    BALANCE_TWO_CHOICES
    BALANCE_LEAST
    BALANCE_ROUND_ROBIN
    BALANCE_RING

cdef enum:
    TIERS = 8
    MOST_BACKENDS = 4096  # of a pool

cdef struct backend_t:
    addr_t            addr
    uint32_t          weight
    uint8_t           loopback   # connect(2) ends at once
    backend_state_t*  state      # borrowed from the registry

# Backends of one tier: a stretch of the pool's array, and what helps to pick there.
cdef struct tier_t:
    uint16_t   first
    uint16_t   count
    uint32_t   weight         # sum
    uint32_t*  upto           # owned; sum of the weights up to and with each
    uint16_t*  rounds         # owned; round robin's order, by index in the tier
    uint32_t   rounds_size
    ring_t*    ring           # owned; BALANCE_RING only

cdef struct pool_t:
    BALANCE     balance
    uint8_t     ring_5_tuple
    uint8_t     try_all_down
    uint8_t     tries
    uint16_t    count
    uint16_t    tier_count
    uint32_t    eject_after
    uint32_t    eject_ms
    uint32_t    connect_ms
    uint32_t    slow_start_ms
    backend_t*  backends       # owned; by tier, then by address
    tier_t      tiers[TIERS]

cdef struct vip_t:
    addr_t            addr      # as bound
    pool_t*           pool      # borrowed from the block's pool
    vip_state_t*      state     # borrowed from the registry
    uint32_t          idle_ms
    uint32_t          max_live
    uint32_t          max_live_source
    uint32_t          max_new
    uint32_t          max_new_source
    listen_options_t  listen

# A listener that appears or goes with this table.
cdef struct change_t:
    uint32_t  vip              # slot
    int*      fds              # owned; one per worker, theirs now; NULL = goes

cdef struct table_t:
    uint64_t   generation
    uint32_t   size
    vip_t**    vips            # owned array by slot; NULL = no such vip
    uint32_t   change_count
    change_t*  changes         # owned

cdef class PoolBlock:
    cdef pool_t* pool          # owned
    cdef Registry registry
    cdef list taken            # keys of backends, one for each use in the registry

    cdef _fill_backend(self, backend_t* b, spec)

cdef class VipBlock:
    cdef vip_t* vip            # owned
    cdef readonly object spec  # the Vip
    cdef readonly PoolBlock pool
    cdef readonly uint32_t slot

cdef class TableBlock:
    cdef table_t* table        # owned
    cdef list blocks           # VipBlocks that the table points into
