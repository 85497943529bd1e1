"""What a worker counts. Blocks of vips and backends sit in chunks that never move,
so that a worker increments while Python adds chunks behind it."""

from libc.errno cimport ENOMEM
from libc.stdlib cimport calloc, free

cdef extern from * nogil:
    int clz64 "__builtin_clzll"(unsigned long long bits)

DROP_NAMES = (
    "closed",
    "reset_by_client",
    "reset_by_backend",
    "idle_timeout",
    "timed_out",
    "connect_failed",
    "connect_timeout",
    "no_backend",
    "limit_connections",
    "limit_rate",
    "limit_source_connections",
    "limit_source_rate",
    "no_descriptors",
    "no_memory",
    "reset_by_admin",
    "engine_closed",
    "header_timeout",
    "tls_handshake",
    "proxy_protocol",
)
VERB_NAMES = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")


cdef int histogram_bucket(uint64_t us) noexcept nogil:
    cdef int octave
    cdef int bucket

    if us < 2:
        return 0
    octave = 63 - clz64(us)
    bucket = 2 * octave + ((us >> (octave - 1)) & 1) - 1
    return bucket if bucket < HISTOGRAM_BUCKETS else HISTOGRAM_BUCKETS - 1


def histogram_bounds_us() -> tuple[int, ...]:
    """Upper bounds of all buckets but the last, which is open; exclusive."""
    bounds = [2]
    for octave in range(1, 28):
        bounds += [3 << (octave - 1), 1 << (octave + 1)]
    return tuple(bounds[: HISTOGRAM_BUCKETS - 1])


cdef int stats_reserve(
    stats_t* s, uint32_t vip_slots, uint32_t backend_slots
) noexcept nogil:
    cdef uint32_t i

    for i in range((vip_slots + STATS_CHUNK - 1) // STATS_CHUNK):
        if s.vips[i] == NULL:
            s.vips[i] = <vip_stats_t*>calloc(STATS_CHUNK, sizeof(vip_stats_t))
            if s.vips[i] == NULL:
                return -ENOMEM
    for i in range((backend_slots + STATS_CHUNK - 1) // STATS_CHUNK):
        if s.backends[i] == NULL:
            s.backends[i] = <backend_stats_t*>calloc(
                STATS_CHUNK, sizeof(backend_stats_t)
            )
            if s.backends[i] == NULL:
                return -ENOMEM
    return 0


cdef int stats_reserve_web(stats_t* s, uint32_t slot) noexcept nogil:
    cdef uint32_t chunk = slot // STATS_CHUNK
    cdef web_stats_t** webs

    if s.webs[chunk] == NULL:
        s.webs[chunk] = <web_stats_t**>calloc(STATS_CHUNK, sizeof(void*))
        if s.webs[chunk] == NULL:
            return -ENOMEM
    webs = s.webs[chunk]
    if webs[slot % STATS_CHUNK] == NULL:
        webs[slot % STATS_CHUNK] = <web_stats_t*>calloc(1, sizeof(web_stats_t))
    return 0 if webs[slot % STATS_CHUNK] != NULL else -ENOMEM


cdef void stats_forget_web(stats_t* s, uint32_t slot) noexcept nogil:
    cdef web_stats_t** webs = s.webs[slot // STATS_CHUNK]

    if webs != NULL:
        free(webs[slot % STATS_CHUNK])
        webs[slot % STATS_CHUNK] = NULL


cdef void web_count(
    stats_t* s, uint32_t slot, VERB verb, uint32_t status, uint64_t took_us,
    uint64_t bytes_up, uint64_t bytes_down,
) noexcept nogil:
    cdef web_stats_t* w = web_stats(s, slot)

    w.bytes[0] += bytes_up
    w.bytes[1] += bytes_down
    w.took_us += took_us
    w.took_in[histogram_bucket(took_us)] += 1
    if status >= 100 and status < 100 + CODES:
        w.codes[<int>verb][status - 100] += 1


cdef void webs_fini(web_stats_t** webs) noexcept nogil:
    cdef int i

    if webs != NULL:
        for i in range(STATS_CHUNK):
            free(webs[i])
        free(webs)


cdef void stats_fini(stats_t* s) noexcept nogil:
    cdef int i

    for i in range(STATS_CHUNKS):
        webs_fini(s.webs[i])
        s.webs[i] = NULL
        free(s.vips[i])
        free(s.backends[i])
        s.vips[i] = NULL
        s.backends[i] = NULL


def bucket_of(uint64_t us):
    """Bucket of a duration, for tests."""
    return histogram_bucket(us)


cdef class Counters:
    """The counters of one worker for tests; `vip` and `backend` add one and return."""

    cdef stats_t* stats

    def __cinit__(self):
        self.stats = <stats_t*>calloc(1, sizeof(stats_t))
        if self.stats == NULL:
            raise MemoryError

    def __dealloc__(self):
        stats_fini(self.stats)
        free(self.stats)

    def reserve(self, uint32_t vips, uint32_t backends):
        return stats_reserve(self.stats, vips, backends)

    def vip(self, uint32_t slot):
        vip_stats(self.stats, slot).accepted += 1
        return vip_stats(self.stats, slot).accepted

    def backend(self, uint32_t slot):
        backend_stats(self.stats, slot).connects += 1
        return backend_stats(self.stats, slot).connects
