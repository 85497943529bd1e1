"""What a worker counts: blocks by slot in two steps, none of which ever moves."""

from libc.errno cimport ENOMEM
from libc.stdlib cimport calloc, free
from fastpath.base.linux.atomic cimport release_ptr

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
    "evicted",
    "vip_removed",
)
LOSS_NAMES = (
    "no_backend",
    "refused",
    "limit_connections",
    "limit_rate",
    "limit_source_connections",
    "limit_source_rate",
    "no_descriptors",
    "no_memory",
    "draining",
    "overflow",
    "congested",
    "too_large",
    "unsendable",
)
PAGE_NAMES = (
    "rewritten",
    "part",
    "location",
    "encoding",
    "too_many",
    "no_memory",
    "broken",
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


cdef int stats_init(stats_t* s) noexcept nogil:
    s.spare_vip = <vip_stats_t*>calloc(1, sizeof(vip_stats_t))
    s.spare_backend = <backend_stats_t*>calloc(1, sizeof(backend_stats_t))
    s.spare_http = <http_stats_t*>calloc(1, sizeof(http_stats_t))
    s.spare_udp = <udp_stats_t*>calloc(1, sizeof(udp_stats_t))
    if s.spare_vip == NULL or s.spare_backend == NULL:
        return -ENOMEM
    if s.spare_http == NULL or s.spare_udp == NULL:
        return -ENOMEM
    return 0


cdef void* shelf_make(
    stats_t* all, shelf_t* s, uint32_t slot, size_t size, void* spare
) noexcept nogil:
    cdef void** pages = <void**>s.pages
    cdef void** page
    cdef void* block

    # Each step is published before the next one: Python may read at any moment.
    if pages == NULL:
        pages = <void**>calloc(STATS_PAGE, sizeof(void*))
        if pages == NULL:
            all.uncounted += 1
            return spare
        release_ptr(&s.pages, pages)
    page = <void**>pages[slot // STATS_PAGE]
    if page == NULL:
        page = <void**>calloc(STATS_PAGE, sizeof(void*))
        if page == NULL:
            all.uncounted += 1
            return spare
        release_ptr(&pages[slot // STATS_PAGE], page)
    block = calloc(1, size)
    if block == NULL:
        all.uncounted += 1
        return spare
    release_ptr(&page[slot % STATS_PAGE], block)
    return block


# Take a block out; the caller frees it. NULL = there is none.
cdef void* shelf_take(shelf_t* s, uint32_t slot) noexcept nogil:
    cdef void* block = shelf_look(s, slot)

    if block != NULL:
        release_ptr(&s.pages[slot // STATS_PAGE][slot % STATS_PAGE], NULL)
    return block


cdef void http_free(http_stats_t* w) noexcept nogil:
    cdef int verb, hundred

    if w == NULL:
        return
    for verb in range(VERBS):
        for hundred in range(HUNDREDS):
            free(w.codes[verb][hundred])
    free(w)


cdef void stats_forget_vip(stats_t* s, uint32_t slot) noexcept nogil:
    free(shelf_take(&s.vips, slot))
    free(shelf_take(&s.udp, slot))
    http_free(<http_stats_t*>shelf_take(&s.http, slot))


cdef void stats_forget_backend(stats_t* s, uint32_t slot) noexcept nogil:
    free(shelf_take(&s.backends, slot))


cdef void stats_forget_upstream(stats_t* s, uint32_t slot) noexcept nogil:
    http_free(<http_stats_t*>shelf_take(&s.upstreams, slot))


cdef void http_count(
    stats_t* s, uint32_t slot, VERB verb, uint32_t status, uint64_t took_us,
    uint64_t bytes_up, uint64_t bytes_down,
) noexcept nogil:
    cdef http_stats_t* w = http_stats(s, slot)
    cdef uint64_t* codes
    cdef uint32_t hundred

    w.bytes[0] += bytes_up
    w.bytes[1] += bytes_down
    w.took_us += took_us
    w.took_in[histogram_bucket(took_us)] += 1
    if status < 100 or status >= 100 + CODES:
        return
    hundred = status // 100 - 1
    codes = w.codes[<int>verb][hundred]
    if codes == NULL:
        codes = <uint64_t*>calloc(100, sizeof(uint64_t))
        if codes == NULL:
            s.uncounted += 1
            return
        release_ptr(&w.codes[<int>verb][hundred], codes)
    codes[status % 100] += 1


cdef void shelf_fini(shelf_t* s, bint has_codes) noexcept nogil:
    cdef uint32_t i, k
    cdef void** page

    if s.pages == NULL:
        return
    for i in range(STATS_PAGE):
        page = s.pages[i]
        if page == NULL:
            continue
        for k in range(STATS_PAGE):
            if has_codes:
                http_free(<http_stats_t*>page[k])
            else:
                free(page[k])
        free(page)
    free(s.pages)
    s.pages = NULL


cdef void stats_fini(stats_t* s) noexcept nogil:
    shelf_fini(&s.vips, False)
    shelf_fini(&s.backends, False)
    shelf_fini(&s.http, True)
    shelf_fini(&s.upstreams, True)
    shelf_fini(&s.udp, False)
    free(s.spare_udp)
    s.spare_udp = NULL
    free(s.spare_vip)
    free(s.spare_backend)
    http_free(s.spare_http)
    s.spare_vip = NULL
    s.spare_backend = NULL
    s.spare_http = NULL


def bucket_of(uint64_t us):
    """Bucket of a duration, for tests."""
    return histogram_bucket(us)


cdef class Counters:
    """The counters of one worker for tests; `vip` and `backend` add one and return."""

    cdef stats_t* stats

    def __cinit__(self):
        self.stats = <stats_t*>calloc(1, sizeof(stats_t))
        if self.stats == NULL or stats_init(self.stats) < 0:
            raise MemoryError

    def __dealloc__(self):
        if self.stats != NULL:
            stats_fini(self.stats)
            free(self.stats)

    def vip(self, uint32_t slot):
        vip_stats(self.stats, slot).accepted += 1
        return vip_stats(self.stats, slot).accepted

    def backend(self, uint32_t slot):
        backend_stats(self.stats, slot).connects += 1
        return backend_stats(self.stats, slot).connects

    def web(self, uint32_t slot, uint32_t status):
        """Count an exchange of a GET; return how many had that status."""
        cdef http_stats_t* w
        http_count(self.stats, slot, VERB_GET, status, 1, 0, 0)
        w = http_stats(self.stats, slot)
        return w.codes[<int>VERB_GET][status // 100 - 1][status % 100]

    def forget(self, uint32_t slot):
        """Forget what was counted under the slot, whatever had it."""
        stats_forget_vip(self.stats, slot)
        stats_forget_backend(self.stats, slot)
        stats_forget_upstream(self.stats, slot)

    def counted(self, uint32_t slot):
        """Return whether a vip and a backend of that slot have blocks."""
        return (
            shelf_look(&self.stats.vips, slot) != NULL,
            shelf_look(&self.stats.backends, slot) != NULL,
        )
