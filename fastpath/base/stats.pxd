# Counters of one worker. One writer (the worker), plain increments; Python reads
# them as they stand and sums over workers. Memory is taken where something is first
# counted, and given back with the slot.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.linux.atomic cimport acquire_ptr

# Why a relay or flow ended, or why a client never became one. Names in stats.pyx.
cdef enum DROP:
    DROP_CLOSED               # both halves ended with a FIN
    DROP_RESET_BY_CLIENT
    DROP_RESET_BY_BACKEND
    DROP_IDLE_TIMEOUT
    DROP_TIMED_OUT            # keepalive or TCP_USER_TIMEOUT gave up
    DROP_CONNECT_FAILED       # refused or unreachable, on every backend tried
    DROP_CONNECT_TIMEOUT
    DROP_NO_BACKEND
    DROP_LIMIT_CONNECTIONS
    DROP_LIMIT_RATE
    DROP_LIMIT_SOURCE_CONNECTIONS
    DROP_LIMIT_SOURCE_RATE
    DROP_NO_DESCRIPTORS
    DROP_NO_MEMORY
    DROP_RESET_BY_ADMIN       # Engine.reset
    DROP_ENGINE_CLOSED
    DROP_HEADER_TIMEOUT       # a client took too long for a head, of HTTP or PROXY
    DROP_TLS_HANDSHAKE        # TLS with a client of HTTP did not come about
    DROP_PROXY_PROTOCOL       # a trusted peer did not begin with a PROXY header
    DROP_EVICTED              # a flow made room for a new one
    DROP_VIP_REMOVED          # a flow ended with its vip
    DROP_REASONS              # how many

# Why a datagram was lost here.
cdef enum LOSS:
    LOSS_NO_BACKEND           # none is usable
    LOSS_REFUSED              # by every backend that was tried
    LOSS_LIMIT_CONNECTIONS    # limits of the vip, in the order of DROP_LIMIT_*
    LOSS_LIMIT_RATE
    LOSS_LIMIT_SOURCE_CONNECTIONS
    LOSS_LIMIT_SOURCE_RATE
    LOSS_NO_DESCRIPTORS
    LOSS_NO_MEMORY
    LOSS_DRAINING             # of a client without a flow, while the engine drains
    LOSS_OVERFLOW             # of a receive buffer: we were too slow
    LOSS_CONGESTED            # the socket or device to send by was full
    LOSS_TOO_LARGE            # for the way, and not to be fragmented
    LOSS_UNSENDABLE           # the kernel would not send it: no route, a firewall
    LOSSES                    # how many

cdef enum:
    HISTOGRAM_BUCKETS = 54    # two an octave: 1 us to 2^27 us = 134 s
    STATS_PAGE = 1024         # blocks of a page, and pages
    SLOTS_MOST = 1048576      # STATS_PAGE * STATS_PAGE

cdef struct vip_stats_t:
    uint64_t accepted
    uint64_t active
    uint64_t retries          # further dials after a failed one
    uint64_t bytes[2]         # by half: up, down
    uint64_t refused[DROP_REASONS]  # ended before a backend took them
    uint64_t closed[DROP_REASONS]

cdef struct backend_stats_t:
    uint64_t connects
    uint64_t failures
    uint64_t ejections
    uint64_t bytes[2]
    uint64_t connect_us                      # sum
    uint64_t connects_in[HISTOGRAM_BUCKETS]  # by connect time

# Of a vip of UDP; by direction: up, down.
cdef struct udp_stats_t:
    uint64_t datagrams[2]       # received, to be forwarded
    uint64_t dropped[LOSSES]    # of them
    uint64_t trains_received[2]  # several datagrams in one piece (GRO)
    uint64_t trains_sent[2]     # likewise (GSO)
    uint64_t trains_refused     # by kernel or device, and sent one by one
    uint64_t resteered          # flows that went on with another backend

# Methods that are counted by name.
cdef enum VERB:
    VERB_GET
    VERB_HEAD
    VERB_POST
    VERB_PUT
    VERB_PATCH
    VERB_DELETE
    VERB_OPTIONS
    VERB_OTHER
    VERBS                     # how many

cdef enum:
    CODES = 500               # statuses 100 to 599
    HUNDREDS = 5

# What became of a page whose verdict maps URLs in HTML. Names in stats.pyx.
cdef enum PAGE:
    PAGE_REWRITTEN
    PAGE_PART                 # as it came: a part of one
    PAGE_LOCATION             # ... its head says where to go
    PAGE_ENCODING             # ... its coding is none that we understand
    PAGE_TOO_MANY             # ... as many as may be are rewritten
    PAGE_NO_MEMORY            # ... there was none
    PAGE_BROKEN               # rewritten, until it was not what its coding says: reset
    PAGES                     # how many
    PAGE_OTHER                # no page

# Of a vip that speaks HTTP, or of an upstream.
cdef struct http_stats_t:
    uint64_t remembered       # verdicts found without asking Python
    uint64_t asked
    uint64_t unanswered       # in time, or at all
    uint64_t unrecorded       # exchanges whose record found no room
    uint64_t replayed         # requests sent again: a kept connection had ended
    uint64_t limited          # requests for which a quota had no place: 429
    uint64_t paused           # times that an exchange was over the rate of its quota
    uint64_t rescued          # likewise, to another backend: a new one had
    uint64_t retries          # further dials after a failed one; upstreams
    uint64_t reused           # kept connections used again; upstreams
    uint64_t resumed          # TLS sessions; upstreams
    uint64_t unreached        # dials to addresses of verdicts that failed; upstreams
    uint64_t bytes[2]         # of bodies: up, down
    uint64_t pages[PAGES]     # by what became of them
    uint64_t values_untouched   # of pages: too long to be mapped
    uint64_t took_us          # sum
    uint64_t took_in[HISTOGRAM_BUCKETS]
    uint64_t* codes[VERBS][HUNDREDS]  # owned, 100 each; NULL = none yet

# Blocks of counters by slot. A worker adds pages and blocks with release stores.
cdef struct shelf_t:
    void*** pages             # owned, STATS_PAGE of them; NULL = nothing was counted

cdef struct stats_t:
    uint64_t accepted
    uint64_t handed_over      # accepted here, given to a worker with less to do
    uint64_t active           # relays; read by the other workers, too
    uint64_t turns            # of the event loop
    uint64_t coalesced        # turns after which it slept, see coalesce
    uint64_t copied           # bytes
    uint64_t streamed         # of them, bodies and tunnels of HTTP
    uint64_t heads            # of requests
    uint64_t spliced
    uint64_t spills           # buffers held now
    uint64_t notices_lost
    uint64_t no_splice        # halves whose sockets must not be spliced
    uint64_t uncounted        # times that there was no memory for a block of counters
    uint64_t unwatched        # times that epoll took no listener: tried again later
    uint64_t starved          # turns without memory to take over a table
    uint64_t no_vip           # clients of a transparent listener for no vip: reset
    uint64_t unpinned         # pins of affinity that made room for others
    uint64_t unkept           # dials from our own address instead of the client's
    uint64_t flows            # live now
    uint64_t flows_total
    uint64_t udp_overflow     # lost by receive buffers of transparent listeners
    shelf_t  vips
    shelf_t  backends
    shelf_t  http             # of vips that speak HTTP
    shelf_t  upstreams
    shelf_t  udp              # of vips of UDP
    vip_stats_t*     spare_vip      # owned; counts where a block found no memory
    backend_stats_t* spare_backend
    http_stats_t*    spare_http
    udp_stats_t*     spare_udp

# The block of a slot; NULL = nothing was counted there. Any thread.
cdef inline void* shelf_look(const shelf_t* s, uint32_t slot) noexcept nogil:
    cdef void*** pages = <void***>acquire_ptr(<void*>&s.pages)
    cdef void** page

    if pages == NULL:
        return NULL
    page = <void**>acquire_ptr(&pages[slot // STATS_PAGE])
    return acquire_ptr(&page[slot % STATS_PAGE]) if page != NULL else NULL

# A new block of `size` zeroed bytes; `spare` if there is no memory. The worker.
cdef void* shelf_make(
    stats_t* all, shelf_t* s, uint32_t slot, size_t size, void* spare
) noexcept nogil

cdef inline vip_stats_t* vip_stats(stats_t* s, uint32_t slot) noexcept nogil:
    cdef void* block = shelf_look(&s.vips, slot)
    if block == NULL:
        block = shelf_make(s, &s.vips, slot, sizeof(vip_stats_t), s.spare_vip)
    return <vip_stats_t*>block

cdef inline backend_stats_t* backend_stats(stats_t* s, uint32_t slot) noexcept nogil:
    cdef void* block = shelf_look(&s.backends, slot)
    if block == NULL:
        block = shelf_make(
            s, &s.backends, slot, sizeof(backend_stats_t), s.spare_backend
        )
    return <backend_stats_t*>block

# Of a vip that speaks HTTP.
cdef inline http_stats_t* http_stats(stats_t* s, uint32_t slot) noexcept nogil:
    cdef void* block = shelf_look(&s.http, slot)
    if block == NULL:
        block = shelf_make(s, &s.http, slot, sizeof(http_stats_t), s.spare_http)
    return <http_stats_t*>block

cdef inline http_stats_t* upstream_stats(stats_t* s, uint32_t slot) noexcept nogil:
    cdef void* block = shelf_look(&s.upstreams, slot)
    if block == NULL:
        block = shelf_make(s, &s.upstreams, slot, sizeof(http_stats_t), s.spare_http)
    return <http_stats_t*>block

cdef inline udp_stats_t* udp_stats(stats_t* s, uint32_t slot) noexcept nogil:
    cdef void* block = shelf_look(&s.udp, slot)
    if block == NULL:
        block = shelf_make(s, &s.udp, slot, sizeof(udp_stats_t), s.spare_udp)
    return <udp_stats_t*>block

# The slot was given back: its next owner starts from zero. Python's thread, when no
# worker counts there any more.
cdef void stats_forget_vip(stats_t* s, uint32_t slot) noexcept nogil
cdef void stats_forget_backend(stats_t* s, uint32_t slot) noexcept nogil
cdef void stats_forget_upstream(stats_t* s, uint32_t slot) noexcept nogil

# An exchange has ended. `status` 0 = before there was one.
cdef void http_count(
    stats_t* s, uint32_t slot, VERB verb, uint32_t status, uint64_t took_us,
    uint64_t bytes_up, uint64_t bytes_down,
) noexcept nogil

# Return 0 or -ENOMEM: then stats_fini is due all the same.
cdef int stats_init(stats_t* s) noexcept nogil
cdef void stats_fini(stats_t* s) noexcept nogil

# Bucket of a duration in microseconds.
cdef int histogram_bucket(uint64_t us) noexcept nogil
