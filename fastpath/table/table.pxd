# The forwarding table: vip -> pool -> backends. Immutable once published (rule 8).
#
# Its blocks belong to Python objects, made and freed by Python's thread alone;
# unchanged vips and pools are the same blocks in the next table. Workers borrow the
# table until their next quiescent point and keep no pointer into it beyond that.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t, network_t
from fastpath.base.context cimport context_t
from fastpath.base.linux.socket cimport sockaddr_storage, socklen_t
from fastpath.ring.ring cimport ring_t
from fastpath.table.listener cimport listen_options_t
from fastpath.table.registry cimport Registry, backend_state_t, vip_state_t
from fastpath.tls.openssl cimport SSL_CTX

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
    const char*       path       # of a unix socket, borrowed from the block; or NULL
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

cdef enum:
    PARTS_MOST = 16          # MAX_KEY_PARTS of policy.py

# Part of a request that a key may contain.
cdef enum PART:
    PART_METHOD
    PART_HOST
    PART_PATH
    PART_SEGMENT             # the path up to its first segment, see Http.key
    PART_QUERY
    PART_UPGRADE
    PART_SOURCE
    PART_BODY
    PART_CERTIFICATE         # of the client: its fingerprint
    PART_HEADER

cdef struct part_t:
    uint8_t     kind         # PART
    uint16_t    size         # of name
    const char* name         # borrowed; PART_HEADER only, lower case

# How a vip speaks HTTP with its clients.
cdef struct http_t:
    uint32_t  header_ms
    uint32_t  idle_ms
    uint32_t  park_ms
    uint32_t  stall_ms           # 0 = none
    SSL_CTX** tls                # by worker, borrowed from the block; NULL = plain
    uint16_t  gateway_status     # 0 = 502, 503 and 504
    uint8_t   log                # a record of each exchange
    uint8_t   part_count
    part_t    parts[PARTS_MOST]  # of keys of verdicts

# How an upstream is spoken with.
cdef struct uplink_t:
    uint64_t       stamp         # no other upstream ever has it
    uint32_t       keepalive     # idle connections that a worker keeps
    uint32_t       keepalive_ms
    SSL_CTX**      tls           # by worker, borrowed from the block; NULL = plain
    const char*    server_name   # borrowed; NULL = none

cdef struct vip_t:
    addr_t            addr      # as bound
    pool_t*           pool      # borrowed from the block's pool
    vip_state_t*      state     # borrowed from the registry
    uint32_t          idle_ms
    uint32_t          max_live
    uint32_t          max_live_source
    uint32_t          max_new
    uint32_t          max_new_source
    uint32_t          trusted_count
    network_t*        trusted   # owned by the block; whose PROXY headers are believed
    listen_options_t  listen
    http_t*           http       # owned by the block; NULL = TCP
    uplink_t*         uplink     # owned by the block; NULL = no upstream

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
    cdef list paths            # bytes that backends borrow

    cdef _fill_backend(self, backend_t* b, spec)

# Address of a backend for connect(2); returns its size.
cdef socklen_t backend_sockaddr(
    const backend_t* b, sockaddr_storage* into
) noexcept nogil

# A Vip, or an Upstream, which is one that nobody dials.
cdef class VipBlock:
    cdef vip_t* vip            # owned
    cdef object kept           # what the structs borrow from
    cdef readonly object spec  # the Vip
    cdef readonly PoolBlock pool
    cdef readonly uint32_t slot
    cdef readonly uint64_t stamp  # of an upstream

    cdef _fill_vip(self, spec, tuple bound)
    cdef _fill_trusted(self, networks)
    cdef _fill_http(self, spec)
    cdef _fill_uplink(self, spec, tuple bound)

cdef class TableBlock:
    cdef table_t* table        # owned
    cdef list blocks           # VipBlocks that the table points into

# The vip in `slot` of the table that a worker uses now; NULL = gone.
cdef inline vip_t* table_vip(const context_t* c, uint32_t slot) noexcept nogil:
    cdef table_t* table = <table_t*>c.table
    return table.vips[slot] if slot < table.size else NULL
