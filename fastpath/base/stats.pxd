# Counters of one worker. One writer (the worker), plain increments; Python reads
# them as they stand and sums over workers. Nothing here is ever reset.
from libc.stdint cimport uint32_t, uint64_t

# Why a relay ended, or why a client never became one. Names in stats.pyx.
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
    DROP_INTERNAL             # cannot happen
    DROP_REASONS              # how many

cdef enum:
    HISTOGRAM_BUCKETS = 54    # two an octave: 1 us to 2^27 us = 134 s
    STATS_CHUNK = 64          # blocks come in chunks that never move
    STATS_CHUNKS = 1024       # so 65,536 vips and as many backends

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

# Of a vip that speaks HTTP, or of an upstream.
cdef struct web_stats_t:
    uint64_t remembered       # verdicts found without asking Python
    uint64_t asked
    uint64_t unanswered       # in time, or at all
    uint64_t unrecorded       # exchanges whose record found no room
    uint64_t replayed         # requests sent again: a kept connection had ended
    uint64_t reused           # kept connections used again; upstreams
    uint64_t resumed          # TLS sessions; upstreams
    uint64_t unreached        # dials to addresses of verdicts that failed; upstreams
    uint64_t bytes[2]         # of bodies: up, down
    uint64_t took_us          # sum
    uint64_t took_in[HISTOGRAM_BUCKETS]
    uint64_t codes[VERBS][CODES]

cdef struct stats_t:
    uint64_t accepted
    uint64_t handed_over      # accepted here, given to a worker with less to do
    uint64_t active           # relays; read by the other workers, too
    uint64_t turns            # of the event loop
    uint64_t rests            # of streams, see worker_rest
    uint64_t copied           # bytes
    uint64_t streamed         # of them, bodies and tunnels of HTTP
    uint64_t heads            # of requests
    uint64_t spliced
    uint64_t spills           # buffers held now
    uint64_t notices_lost
    uint64_t no_splice        # halves whose sockets must not be spliced
    vip_stats_t*     vips[STATS_CHUNKS]      # owned; NULL = chunk not needed yet
    backend_stats_t* backends[STATS_CHUNKS]  # owned
    web_stats_t**    webs[STATS_CHUNKS]      # owned, and what they point to; by vip

cdef inline vip_stats_t* vip_stats(stats_t* s, uint32_t slot) noexcept nogil:
    return &s.vips[slot // STATS_CHUNK][slot % STATS_CHUNK]

cdef inline backend_stats_t* backend_stats(stats_t* s, uint32_t slot) noexcept nogil:
    return &s.backends[slot // STATS_CHUNK][slot % STATS_CHUNK]

# Of a vip in a table that has http or uplink.
cdef inline web_stats_t* web_stats(stats_t* s, uint32_t slot) noexcept nogil:
    return s.webs[slot // STATS_CHUNK][slot % STATS_CHUNK]

# Make room for one. Python's thread, likewise. Return 0 or -ENOMEM.
cdef int stats_reserve_web(stats_t* s, uint32_t slot) noexcept nogil

# The slot was given back: who gets it next starts from zero.
cdef void stats_forget_web(stats_t* s, uint32_t slot) noexcept nogil

# An exchange has ended. `status` 0 = before there was one.
cdef void web_count(
    stats_t* s, uint32_t slot, VERB verb, uint32_t status, uint64_t took_us,
    uint64_t bytes_up, uint64_t bytes_down,
) noexcept nogil

# Make room for vips and backends up to these slots. Python's thread calls it before
# a table names them. Return 0 or -ENOMEM.
cdef int stats_reserve(
    stats_t* s, uint32_t vip_slots, uint32_t backend_slots
) noexcept nogil
cdef void stats_fini(stats_t* s) noexcept nogil

# Bucket of a duration in microseconds.
cdef int histogram_bucket(uint64_t us) noexcept nogil
