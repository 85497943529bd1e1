# The forwarding table: vip -> pool -> backends, and upstreams. Immutable once published
# (rule 8).
#
# Its blocks belong to Python objects, made and freed by Python's thread alone; what did
# not change is the same block in the next table. Workers borrow the table until their
# next quiescent point and keep no pointer into it beyond that.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_t
from fastpath.ring.ring cimport ring_t
from fastpath.table.listener cimport listen_options_t
from fastpath.table.networks cimport networks_t
from fastpath.table.registry cimport (
    backend_state_t,
    pool_state_t,
    upstream_state_t,
    vip_state_t,
)
from fastpath.tls.openssl cimport SSL_CTX

cdef enum BALANCE:
    BALANCE_RANDOM
    BALANCE_TWO_CHOICES
    BALANCE_LEAST
    BALANCE_ROUND_ROBIN
    BALANCE_RING

cdef enum:
    TIERS = 8
    PAGE = 256               # pointers of a page: what a change of one entry copies
    MOST_RING_BACKENDS = 4096

cdef struct backend_t:
    addr_t            addr
    uint32_t          weight
    uint8_t           loopback   # connect(2) ends at once
    const char*       path       # of a unix socket, borrowed from the block; or NULL
    backend_state_t*  state      # borrowed from the registry

# Backends of one tier: a stretch of the pool's array, and what helps to pick there.
cdef struct tier_t:
    uint32_t   first
    uint32_t   count
    uint32_t   weight         # sum
    uint32_t   rounds_size
    uint32_t*  upto           # owned; sum of the weights up to and with each
    uint16_t*  rounds         # owned; round robin's order, by index in the tier
    ring_t*    ring           # owned; BALANCE_RING only

cdef struct pool_t:
    BALANCE        balance
    uint8_t        ring_5_tuple
    uint8_t        try_all_down
    uint8_t        tries
    uint8_t        tier_count
    uint32_t       count
    uint32_t       eject_after
    uint32_t       eject_ms
    uint32_t       connect_ms
    uint32_t       slow_start_ms
    uint32_t       affinity_s  # a source keeps its backend for so long; 0 = not at all
    uint64_t       stamp       # no other block of a pool ever has it
    pool_state_t*  state       # borrowed from the registry
    backend_t*     backends    # owned; by tier, then by address
    tier_t*        tiers       # owned; tier_count of them

cdef enum:
    PARTS_MOST = 24          # MAX_KEY_PARTS of policy.py
    LOGGED_MOST = 8          # MAX_LOG_HEADERS of policy.py

# Part of a request that a key may contain.
cdef enum PART:
    PART_METHOD
    PART_HOST
    PART_PATH
    PART_SEGMENT             # the path up to its first segment, see Http.key
    PART_WORD                # whether the path has a word in it, see Http.key
    PART_QUERY
    PART_UPGRADE
    PART_SOURCE
    PART_BODY
    PART_CERTIFICATE         # of the client: its fingerprint
    PART_HEADER

cdef struct part_t:
    uint8_t     kind         # PART
    uint16_t    size         # of name
    const char* name         # borrowed; of a header, in lower case, or the word

# What a client reads if its request fails; why stands between the two texts.
cdef struct failure_t:
    const char*  head            # borrowed; status line and type; NULL = plain text
    const char*  before          # borrowed
    const char*  after           # borrowed
    uint16_t     status

# How a vip speaks HTTP with its clients.
cdef struct http_t:
    uint32_t  header_ms
    uint32_t  idle_ms
    uint32_t  park_ms
    uint32_t  stall_ms           # 0 = none
    SSL_CTX** tls                # by worker, borrowed from the block; NULL = plain
    uint16_t  gateway_status     # 0 = 502, 503 and 504
    failure_t gateway            # of requests ...
    failure_t gateway_upgrade    # ... of those to upgrade ...
    failure_t not_upgraded       # ... and those that were answered by no upgrade
    failure_t too_many           # a quota has no place for them
    failure_t untrusted          # the client's certificate is good no more
    uint8_t   log                # a record of each exchange
    uint8_t   part_count
    uint8_t   logged_count
    uint16_t  log_target         # bytes of path and query in a record; 0 = path only
    part_t    parts[PARTS_MOST]  # of keys of verdicts
    part_t    logged[LOGGED_MOST]  # headers that a record has

# How requests are spoken with a place.
cdef struct upstream_t:
    upstream_state_t* state      # borrowed from the registry
    uint64_t       stamp         # no other upstream ever has it
    uint32_t       pool          # slot; where to, unless the verdict names an address
    uint32_t       keepalive     # idle connections that a worker keeps
    uint32_t       keepalive_ms
    uint32_t       head_bytes    # of a response's head, at most
    uint16_t       head_lines
    SSL_CTX**      tls           # by worker, borrowed from the block; NULL = plain
    const char*    server_name   # borrowed; NULL = none

cdef struct vip_t:
    addr_t            addr       # that clients dial; port 0 and no family: a path
    uint8_t           protocol   # IPPROTO_TCP or IPPROTO_UDP
    uint32_t          pool       # slot
    vip_state_t*      state      # borrowed from the registry
    uint32_t          idle_ms    # of relays
    uint32_t          one_way_ms  # of flows that were not answered
    uint32_t          two_way_ms  # of those that were
    uint32_t          max_live
    uint32_t          max_live_source
    uint32_t          max_new
    uint32_t          max_new_source
    uint32_t          near_pool  # slot; of near clients
    networks_t        trusted    # PROXY headers from there count
    networks_t        near       # where near clients come from
    uint8_t           keep_far   # backends see the client's address: of far clients ...
    uint8_t           keep_near  # ... and of near ones
    listen_options_t  listen
    http_t*           http       # owned by the block; NULL = TCP

# Pointers by slot, in pages that a table shares with the one before it.
cdef struct array_t:
    void***    pages         # owned; NULL = nothing in that page
    uint32_t   count         # of pages

# Vips by (protocol, address, port): open addressing, at most half full. An entry is
# half a cache line and has the address itself: a look-up reads nothing else.
cdef struct entry_t:
    addr_t     addr
    uint32_t   slot          # of the vip, plus one; 0 = free
    uint32_t   hash
    uint32_t   protocol

cdef struct index_t:
    uint32_t   mask
    uint32_t   count
    entry_t*   entries       # owned

cdef struct table_t:
    uint64_t   generation
    uint64_t   swept         # generation in which an upstream last changed or went
    uint64_t   left          # likewise, in which a vip of UDP last went
    array_t    vips          # vip_t*
    array_t    pools         # pool_t*
    array_t    upstreams     # upstream_t*
    index_t*   index         # borrowed; vips that are not bound

cdef inline void* array_at(const array_t* a, uint32_t slot) noexcept nogil:
    cdef uint32_t page = slot // PAGE
    if page >= a.count or a.pages[page] == NULL:
        return NULL
    return a.pages[page][slot % PAGE]

# What stands in `slot` of the table that a worker uses now; NULL = gone.
cdef inline vip_t* table_vip(const context_t* c, uint32_t slot) noexcept nogil:
    return <vip_t*>array_at(&(<table_t*>c.table).vips, slot)

cdef inline upstream_t* table_upstream(
    const context_t* c, uint32_t slot
) noexcept nogil:
    return <upstream_t*>array_at(&(<table_t*>c.table).upstreams, slot)

# A pool that a vip or upstream of the same table names; never NULL then.
cdef inline pool_t* table_pool(const context_t* c, uint32_t slot) noexcept nogil:
    return <pool_t*>array_at(&(<table_t*>c.table).pools, slot)

# Where clients of a vip go; not NULL, as above.
cdef inline pool_t* vip_pool(
    const context_t* c, const vip_t* v, bint near
) noexcept nogil:
    return table_pool(c, v.near_pool if near else v.pool)

cdef enum:
    SLOT_NONE = 0xffffffff

# Slot of the vip that is not bound at this address; SLOT_NONE = there is none.
cdef uint32_t table_find(
    const table_t* t, uint8_t protocol, const addr_t* address
) noexcept nogil

# What a slot of an array points to.
cdef class Block:
    cdef void* body              # owned
    cdef readonly uint32_t slot
    cdef readonly object spec    # what Python said

cdef class Array:
    cdef array_t array
    cdef list pages              # Page, or None where nothing is

    cdef Array changed(self, dict changes)

cdef class Index:
    cdef index_t index

cdef class TableBlock:
    cdef table_t table
    cdef Array vips
    cdef Array pools
    cdef Array upstreams
    cdef Index index
