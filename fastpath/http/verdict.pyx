"""Remembered verdicts: a cache of fixed size, by parts of the request.

A key is made of the parts that Python named for the verdict. Each way of naming parts
that is in use is tried, usually one or two. Within a set the entry that expires first
makes room. Withdrawing everything is one number: the epoch.
"""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from fastpath.base.linux.atomic cimport add_u32, sub_u32_acq
from fastpath.http1.field cimport same, span_t
from fastpath.http1.framing cimport header_t
from fastpath.table.table cimport (
    PART_BODY,
    PART_HOST,
    PART_METHOD,
    PART_PATH,
    PART_QUERY,
    PART_SEGMENT,
    PART_SOURCE,
    PART_UPGRADE,
)


cdef void verdict_hold(verdict_t* v) noexcept nogil:
    add_u32(&v.refs, 1)


cdef void verdict_release(verdict_t* v) noexcept nogil:
    if v != NULL and sub_u32_acq(&v.refs, 1) == 0:
        free(v)


cdef void memory_init(memory_t* m, uint64_t seed) noexcept nogil:
    m.ways = NULL
    m.seed = seed
    m.epoch = 0
    m.mask_count = 0


cdef void memory_fini(memory_t* m) noexcept nogil:
    cdef uint32_t i

    if m.ways == NULL:
        return
    for i in range(MEMORY_SETS * MEMORY_WAYS):
        memory_drop(&m.ways[i])
    free(m.ways)
    m.ways = NULL


cdef void memory_drop(remembered_t** at) noexcept nogil:
    if at[0] != NULL:
        verdict_release(at[0].verdict)
        free(at[0])
        at[0] = NULL


# ---- Keys.

cdef struct writer_t:
    char*  into
    size_t size
    bint   full


cdef void put(writer_t* w, const char* bytes, size_t size) noexcept nogil:
    if w.size + size > KEY_BYTES_MOST:
        w.full = True
        return
    memcpy(w.into + w.size, bytes, size)
    w.size += size


# A part with its length in front: no two keys run into each other.
cdef void put_part(writer_t* w, const char* bytes, uint32_t size) noexcept nogil:
    put(w, <const char*>&size, sizeof(size))
    put(w, bytes, size)


# All values of a header, or that there is none.
cdef void put_header(writer_t* w, const asked_t* a, const part_t* part) noexcept nogil:
    cdef const header_t* h
    cdef uint32_t i
    cdef uint32_t none = 0xffffffff

    for i in range(a.head.count):
        h = &a.head.headers[i]
        if h.name.size == part.size and same(
            a.bytes + h.name.at, part.size, part.name
        ):
            put_part(w, a.bytes + h.value.at, h.value.size)
    put(w, <const char*>&none, sizeof(none))


cdef void put_span(writer_t* w, const asked_t* a, span_t s) noexcept nogil:
    put_part(w, a.bytes + s.at, s.size)


# "/api/" of "/api/v1/pods", "/healthz" of itself; of a path that somebody may read in
# another way (escapes, empty segments, ones that begin with a dot) the whole of it.
cdef span_t first_segment(const char* bytes, span_t path) noexcept nogil:
    cdef const char* text = bytes + path.at
    cdef uint32_t end = path.size
    cdef uint32_t i

    if path.size == 0 or text[0] != b"/":
        return path
    for i in range(1, path.size):
        if text[i] == b"%":
            return path
        if text[i - 1] == b"/" and (text[i] == b"/" or text[i] == b"."):
            return path
        if text[i] == b"/" and end == path.size:
            end = i + 1
    path.size = end
    return path


cdef void put_request_part(
    writer_t* w, const asked_t* a, const part_t* part
) noexcept nogil:
    cdef char has

    if part.kind == PART_METHOD:
        put_span(w, a, a.head.method)
    elif part.kind == PART_HOST:
        put_span(w, a, a.head.host)
    elif part.kind == PART_PATH:
        put_span(w, a, a.head.path)
    elif part.kind == PART_SEGMENT:
        put_span(w, a, first_segment(a.bytes, a.head.path))
    elif part.kind == PART_QUERY:
        put_span(w, a, a.head.query)
    elif part.kind == PART_SOURCE:
        put_part(w, <const char*>a.client.ip, sizeof(a.client.ip))
    elif part.kind == PART_BODY:
        has = a.head.body != 0
        put_part(w, &has, 1)
    elif part.kind == PART_UPGRADE and not a.head.upgrade:
        put_part(w, b"", 0)
    else:  # PART_HEADER, and PART_UPGRADE named like its header
        put_header(w, a, part)


# Bytes of the key in m.key; -1 = too long.
cdef ssize_t memory_key(memory_t* m, const asked_t* a, uint16_t parts) noexcept nogil:
    cdef writer_t w
    cdef uint32_t i

    w.into = m.key
    w.size = 0
    w.full = False
    put(&w, <const char*>&a.vip, sizeof(a.vip))
    put(&w, <const char*>&parts, sizeof(parts))
    for i in range(a.part_count):
        if parts >> i & 1:
            put_request_part(&w, a, &a.parts[i])
    return -1 if w.full else <ssize_t>w.size


# Eight bytes at a time, multiply and fold; seeded, so sets cannot be aimed at.
cdef uint64_t memory_hash(const memory_t* m, size_t size) noexcept nogil:
    cdef uint64_t hash = m.seed ^ size
    cdef uint64_t word
    cdef size_t at = 0

    while at < size:
        word = 0
        memcpy(&word, m.key + at, 8 if size - at >= 8 else size - at)
        hash = (hash ^ word) * <uint64_t>0x9E3779B97F4A7C15
        hash ^= hash >> 32
        at += 8
    return hash


# ---- Finding and keeping.

cdef inline remembered_t** memory_set(memory_t* m, uint64_t hash) noexcept nogil:
    return &m.ways[(hash & (MEMORY_SETS - 1)) * MEMORY_WAYS]


cdef remembered_t* memory_look(
    memory_t* m, uint64_t hash, size_t size, uint64_t epoch, uint64_t now_ms
) noexcept nogil:
    cdef remembered_t** ways = memory_set(m, hash)
    cdef remembered_t* r
    cdef uint32_t i

    for i in range(MEMORY_WAYS):
        r = ways[i]
        if r == NULL or r.hash != hash or r.size != size:
            continue
        if r.epoch == epoch and r.expires_ms > now_ms and (
            memcmp(r.key, m.key, size) == 0
        ):
            return r
    return NULL


cdef verdict_t* memory_find(
    memory_t* m, const asked_t* a, uint64_t epoch, uint64_t now_ms
) noexcept nogil:
    cdef remembered_t* found
    cdef ssize_t size
    cdef uint32_t i

    if m.ways == NULL or m.epoch != epoch:
        return NULL
    for i in range(m.mask_count):
        if m.masks[i].vip != a.vip:
            continue
        size = memory_key(m, a, m.masks[i].parts)
        if size < 0:
            continue
        found = memory_look(m, memory_hash(m, size), size, epoch, now_ms)
        if found != NULL:
            return found.verdict
    return NULL


cdef bint memory_learn_mask(memory_t* m, uint32_t vip, uint16_t parts) noexcept nogil:
    cdef uint32_t i

    for i in range(m.mask_count):
        if m.masks[i].vip == vip and m.masks[i].parts == parts:
            return True
    if m.mask_count == MEMORY_MASKS:
        return False
    m.masks[m.mask_count].vip = vip
    m.masks[m.mask_count].parts = parts
    m.mask_count += 1
    return True


# The way to write to: this key's own, a free or outdated one, or who expires first.
cdef remembered_t** memory_place(
    memory_t* m, uint64_t hash, size_t size, uint64_t epoch
) noexcept nogil:
    cdef remembered_t** ways = memory_set(m, hash)
    cdef remembered_t** place = NULL
    cdef remembered_t* r
    cdef uint32_t i

    for i in range(MEMORY_WAYS):
        r = ways[i]
        if r != NULL and r.hash == hash and r.size == size and (
            memcmp(r.key, m.key, size) == 0
        ):
            return &ways[i]
    for i in range(MEMORY_WAYS):
        r = ways[i]
        if r == NULL or r.epoch != epoch:
            return &ways[i]
        if place == NULL or r.expires_ms < place[0].expires_ms:
            place = &ways[i]
    return place


cdef void memory_keep(
    memory_t* m, const asked_t* a, uint16_t parts, verdict_t* v,
    uint64_t epoch, uint64_t expires_ms,
) noexcept nogil:
    cdef remembered_t** place
    cdef remembered_t* r
    cdef ssize_t size = memory_key(m, a, parts)
    cdef uint64_t hash

    if size < 0:
        return
    if m.ways == NULL:
        m.ways = <remembered_t**>calloc(MEMORY_SETS * MEMORY_WAYS, sizeof(void*))
        if m.ways == NULL:
            return
    if m.epoch != epoch:
        m.epoch = epoch
        m.mask_count = 0
    r = <remembered_t*>malloc(sizeof(remembered_t) + size)
    if r == NULL:
        return
    if not memory_learn_mask(m, a.vip, parts):
        free(r)
        return
    hash = memory_hash(m, size)
    place = memory_place(m, hash, size, epoch)
    memory_drop(place)
    r.hash = hash
    r.epoch = epoch
    r.expires_ms = expires_ms
    r.verdict = v
    r.vip = a.vip
    r.size = <uint32_t>size
    memcpy(r.key, m.key, size)
    verdict_hold(v)
    place[0] = r
