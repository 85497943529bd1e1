"""Remembered verdicts: a cache of fixed size, by parts of the request.

A key is made of the parts that Python named for the verdict. Each way of naming parts
that is in use for the vip is tried, usually one or two. To withdraw verdicts Python
stores one number: an entry says when it was answered, and is void if that was before
its tag, or everything, was withdrawn. Void and expired entries are freed when their set
is written to or swept; each answer that is remembered sweeps one more set.

Each worker has a memory of its own, without a lock, and asks for itself. The bytes of
all memories are counted together. Within a full set the entry that expires first makes
room; if the bytes are used up, entries of the sets that are swept next do.
"""

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from fastpath.base.linux.atomic cimport (
    add_u32,
    add_u64,
    load_u32,
    store_u32,
    sub_u32_acq,
    sub_u64,
)
from fastpath.http.key cimport key_bytes, key_hash, key_write, secret_init
from fastpath.http.quota cimport quota_release

cdef enum:
    BYTES_OF_ENTRY = 256     # a usual one; there are up to twice as many ways as fit
    SETS_MOST = 1 << 24
    SWEPT_MOST = 4096        # sets looked at for room while a client waits
    GIVEN_MOST = 64          # sets looked at to give room to another worker
    OVERHEAD = 16            # of malloc(3)


cdef void verdict_hold(verdict_t* v) noexcept nogil:
    add_u32(&v.refs, 1)


cdef void verdict_release(verdict_t* v) noexcept nogil:
    if v != NULL and sub_u32_acq(&v.refs, 1) == 0:
        quota_release(v.quota)
        free(v)


# ---- The budget.

cdef void budget_init(budget_t* b, uint64_t most, uint32_t workers) noexcept nogil:
    b.most = most
    b.share = most // workers
    b.used = 0
    b.wanted = 0


cdef bint budget_take(budget_t* b, uint64_t bytes) noexcept nogil:
    # Add, then look: two workers never both get the last bytes. For the moment in
    # between, a third one may be refused although it would fit.
    if add_u64(&b.used, bytes) <= b.most:
        return True
    sub_u64(&b.used, bytes)
    return False


cdef void budget_give(budget_t* b, uint64_t bytes) noexcept nogil:
    sub_u64(&b.used, bytes)


# ---- Open and close.

cdef void memory_init(
    memory_t* m, budget_t* budget, const epochs_t* epochs
) noexcept nogil:
    memset(m, 0, sizeof(memory_t))
    m.budget = budget
    m.epochs = epochs
    # At least as many ways as usual entries fit in the share. A key has only the ways
    # of its set, so that some to spare keep a set from being full while others are not.
    m.sets = 8
    while m.sets < SETS_MOST and (
        <uint64_t>m.sets * MEMORY_WAYS * BYTES_OF_ENTRY < budget.share
    ):
        m.sets *= 2
    secret_init(&m.secret)


cdef inline uint64_t ways_bytes(const memory_t* m) noexcept nogil:
    return <uint64_t>m.sets * MEMORY_WAYS * sizeof(remembered_t*)


# Allocate the array of ways with the first answer: without HTTP there never is one. It
# is counted in full, although a page of it takes memory only once a key falls there.
cdef bint memory_ready(memory_t* m) noexcept nogil:
    if m.ways != NULL:
        return True
    if not budget_take(m.budget, ways_bytes(m)):
        return False
    m.ways = <remembered_t**>calloc(m.sets * MEMORY_WAYS, sizeof(remembered_t*))
    if m.ways == NULL:
        budget_give(m.budget, ways_bytes(m))
        return False
    m.bytes += ways_bytes(m)
    return True


cdef void memory_fini(memory_t* m) noexcept nogil:
    cdef uint32_t i

    if m.ways != NULL:
        for i in range(m.sets * MEMORY_WAYS):
            if m.count == 0:
                break  # the rest was never touched: do not make its pages resident
            memory_drop(m, &m.ways[i])
        free(m.ways)
        m.ways = NULL
        budget_give(m.budget, ways_bytes(m))
    for i in range(m.mask_room):
        free(m.masks[i])
    free(m.masks)
    m.masks = NULL
    m.mask_room = 0


# ---- Entries.

cdef inline uint64_t entry_bytes(uint32_t size) noexcept nogil:
    return sizeof(remembered_t) + key_bytes(size) + OVERHEAD


# Whether an entry has neither expired nor been withdrawn.
cdef inline bint entry_counts(
    const memory_t* m, const remembered_t* r, uint64_t now_ms
) noexcept nogil:
    return r.expires_ms > now_ms and epochs_allow(m.epochs, r.moment, r.tag)


# An entry for the key in m.key; NULL = no room. The verdict's own bytes are counted
# once, however many entries share it: they are taken with each entry, and given back at
# once if another entry has the verdict already.
cdef remembered_t* entry_new(
    memory_t* m, verdict_t* v, uint32_t size, uint64_t now_ms
) noexcept nogil:
    cdef uint64_t bytes = entry_bytes(size)
    cdef remembered_t* r

    # Bytes before malloc: the budget is a promise about memory that is in use.
    if not memory_afford(m, bytes + v.size, now_ms):
        return NULL
    r = <remembered_t*>malloc(sizeof(remembered_t) + key_bytes(size))
    if r == NULL:
        budget_give(m.budget, bytes + v.size)
        return NULL
    if add_u32(&v.kept, 1) > 1:
        budget_give(m.budget, v.size)
    verdict_hold(v)
    r.verdict = v
    r.size = size
    memcpy(r.key, m.key, key_bytes(size))
    m.bytes += bytes
    m.count += 1
    return r


cdef void memory_drop(memory_t* m, remembered_t** at) noexcept nogil:
    cdef remembered_t* r = at[0]
    cdef uint64_t bytes

    if r == NULL:
        return
    # The last entry of a verdict, of whichever worker, gives back the verdict's bytes,
    # though an exchange may hold it a little longer.
    at[0] = NULL
    bytes = entry_bytes(r.size)
    m.bytes -= bytes
    m.count -= 1
    if sub_u32_acq(&r.verdict.kept, 1) == 0:
        bytes += r.verdict.size
    budget_give(m.budget, bytes)
    verdict_release(r.verdict)
    free(r)


# ---- Making room.

# Drop what is void or has expired in the next set. With `evict`, and if that is
# nothing, drop the entry that expires first. Return whether something was dropped.
cdef bint memory_sweep(memory_t* m, bint evict, uint64_t now_ms) noexcept nogil:
    cdef remembered_t** ways = &m.ways[<size_t>m.hand * MEMORY_WAYS]
    cdef remembered_t** first = NULL
    cdef bint dropped = False
    cdef uint32_t i

    # One hand for all that sweep: no set is swept twice before each was swept once.
    m.hand = (m.hand + 1) & (m.sets - 1)
    for i in range(MEMORY_WAYS):
        if ways[i] == NULL:
            continue
        if not entry_counts(m, ways[i], now_ms):
            memory_drop(m, &ways[i])
            dropped = True
        elif first == NULL or ways[i].expires_ms < first[0].expires_ms:
            first = &ways[i]
    if evict and not dropped and first != NULL:
        memory_drop(m, first)
        m.evicted += 1
        dropped = True
    return dropped


# Take bytes of the budget, and make room for them if need be. False = there is none.
cdef bint memory_afford(
    memory_t* m, uint64_t bytes, uint64_t now_ms
) noexcept nogil:
    cdef uint32_t _i

    # Its own entries first, because no other worker's memory may be touched here.
    if budget_take(m.budget, bytes):
        return True
    for _i in range(SWEPT_MOST):
        if m.count == 0:
            break
        if memory_sweep(m, True, now_ms) and budget_take(m.budget, bytes):
            return True
    # The others have it all: those above their share give some back at their next look.
    store_u32(&m.budget.wanted, 1)
    return False


# Another worker has no room, and this one has more than its share: give some back.
cdef void memory_relieve(memory_t* m, uint64_t now_ms) noexcept nogil:
    cdef uint32_t _i

    # A little at each look-up: a client waits for it. If it was not enough, the worker
    # that lacks room says so again.
    for _i in range(GIVEN_MOST):
        if m.bytes <= m.budget.share or m.count == 0:
            break
        memory_sweep(m, True, now_ms)
    store_u32(&m.budget.wanted, 0)


# ---- Masks.

cdef inline masks_t* masks_of(const memory_t* m, uint32_t vip) noexcept nogil:
    return m.masks[vip] if vip < m.mask_room else NULL


cdef masks_t* masks_make(memory_t* m, uint32_t vip) noexcept nogil:
    cdef uint32_t room = vip + 1
    cdef masks_t** grown

    # Up to the vip's slot, and never fewer: slots of vips are used again.
    if vip >= m.mask_room:
        grown = <masks_t**>realloc(m.masks, room * sizeof(masks_t*))
        if grown == NULL:
            return NULL
        memset(&grown[m.mask_room], 0, (room - m.mask_room) * sizeof(masks_t*))
        m.masks = grown
        m.mask_room = room
    if m.masks[vip] == NULL:
        m.masks[vip] = <masks_t*>calloc(1, sizeof(masks_t))
    return m.masks[vip]


# Have `mask` among those that memory_find tries; False = no memory. The entries of a
# mask that gives way are not found any more, and expire.
cdef bint memory_learn_mask(
    memory_t* m, uint32_t vip, mask_t mask, uint64_t moment
) noexcept nogil:
    cdef masks_t* known = masks_make(m, vip)
    cdef uint32_t i

    if known == NULL:
        return False
    # Masks from before all was withdrawn number the parts of another Http.key, perhaps:
    # none of their entries counts, so begin anew.
    if known.moment < acquire_u64(&m.epochs.all):
        known.count = 0
        known.next = 0
    if known.count == 0:
        known.moment = moment
    for i in range(known.count):
        if known.list[i] == mask:
            return True
    if known.count < MASKS_MOST:
        known.list[known.count] = mask
        known.count += 1
        return True
    # Each mask costs every request of the vip a look-up, so their number is bounded. In
    # turn: with more of them in use, Python is asked more often, but answers all.
    known.list[known.next] = mask
    known.next = (known.next + 1) % MASKS_MOST
    return True


# ---- Finding and keeping.

cdef inline remembered_t** memory_set(memory_t* m, uint64_t hash) noexcept nogil:
    return &m.ways[(hash & (m.sets - 1)) * MEMORY_WAYS]


# Where the key in m.key stands in its set; NULL = nowhere.
cdef inline remembered_t** memory_look(
    memory_t* m, uint64_t hash, uint32_t size
) noexcept nogil:
    cdef remembered_t** ways = memory_set(m, hash)
    cdef remembered_t* r
    cdef uint32_t i

    for i in range(MEMORY_WAYS):
        r = ways[i]
        if r != NULL and r.hash == hash and r.size == size and (
            memcmp(r.key, m.key, key_bytes(size)) == 0
        ):
            return &ways[i]
    return NULL


cdef verdict_t* memory_find(
    memory_t* m, const asked_t* a, uint64_t now_ms, uint64_t* label
) noexcept nogil:
    cdef masks_t* masks = masks_of(m, a.vip)
    cdef remembered_t** found
    cdef uint32_t size
    cdef uint32_t i

    # In order: help another worker, if one asks; a key and a look-up for each mask in
    # use, until one is found that still counts. An entry that does not is left to the
    # sweep: looking up writes nothing.
    if load_u32(&m.budget.wanted) and m.bytes > m.budget.share:
        memory_relieve(m, now_ms)
    if masks == NULL or m.ways == NULL or masks.moment < acquire_u64(&m.epochs.all):
        return NULL
    for i in range(masks.count):
        size = key_write(m.key, a, masks.list[i], &m.secret)
        if size == 0:
            continue  # too long for a key: Python is asked each time
        found = memory_look(m, key_hash(m.key, size, &m.secret), size)
        if found != NULL and entry_counts(m, found[0], now_ms):
            label[0] = found[0].label
            return found[0].verdict
    return NULL


# The way to write to: this key's own, a free or void one, or the first to expire.
cdef remembered_t** memory_place(
    memory_t* m, uint64_t hash, uint32_t size, uint64_t now_ms
) noexcept nogil:
    cdef remembered_t** ways = memory_set(m, hash)
    cdef remembered_t** place = memory_look(m, hash, size)
    cdef uint32_t i

    # Its own first: a key that stood twice could be answered by its older entry.
    if place != NULL:
        return place
    for i in range(MEMORY_WAYS):
        if ways[i] == NULL or not entry_counts(m, ways[i], now_ms):
            return &ways[i]
        if place == NULL or ways[i].expires_ms < place[0].expires_ms:
            place = &ways[i]
    m.evicted += 1
    return place


cdef void memory_keep(
    memory_t* m, const asked_t* a, mask_t mask, verdict_t* v, uint32_t tag,
    uint64_t label, uint64_t moment, uint64_t expires_ms, uint64_t now_ms,
) noexcept nogil:
    cdef remembered_t** place
    cdef remembered_t* r
    cdef uint32_t size = key_write(m.key, a, mask, &m.secret)
    cdef uint64_t hash

    # In order: the key; memory for it, and for its mask; sweep one set, so that what is
    # void does not stay for ever; then replace what stands in its place.
    if size == 0 or not memory_ready(m) or (
        not memory_learn_mask(m, a.vip, mask, moment)
    ):
        m.unkept += 1
        return
    memory_sweep(m, False, now_ms)
    hash = key_hash(m.key, size, &m.secret)
    place = memory_place(m, hash, size, now_ms)
    # Dropped first, as its bytes may be what the new entry needs. Making room may drop
    # entries anywhere, but moves no way: `place` stays good.
    memory_drop(m, place)
    r = entry_new(m, v, size, now_ms)
    if r == NULL:
        m.unkept += 1
        return
    r.hash = hash
    r.moment = moment
    r.expires_ms = expires_ms
    r.tag = tag
    r.label = label
    place[0] = r
