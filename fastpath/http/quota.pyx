"""Limits that exchanges share: a count, and a token bucket in one word.

The bucket is kept as a moment, up to which all that was moved is paid for at the rate
of the quota (the generic cell rate algorithm, ITU-T I.371). Each byte moves it on; what
is ahead of now by more than a burst has to wait. So workers share one atomic word, and
nobody fills buckets by a timer.
"""

from libc.stdlib cimport calloc, free

from fastpath.base.linux.atomic cimport (
    add_u32,
    cas_u64,
    load_u32,
    load_u64,
    sub_u32,
    sub_u32_acq,
)

cdef enum:
    NS_OF_MS = 1000000
    NS_OF_S = 1000000000


cdef quota_t* quota_new() noexcept nogil:
    cdef quota_t* q = <quota_t*>calloc(1, sizeof(quota_t))

    if q != NULL:
        q.refs = 1
    return q


cdef void quota_hold(quota_t* q) noexcept nogil:
    add_u32(&q.refs, 1)


cdef void quota_release(quota_t* q) noexcept nogil:
    if q != NULL and sub_u32_acq(&q.refs, 1) == 0:
        free(q)


cdef bint quota_is_idle(quota_t* q, uint64_t now_ms) noexcept nogil:
    # Only what holds it can share it: once there is one reference, there stays one.
    return load_u32(&q.refs) == 1 and load_u64(&q.paid_ns) <= now_ms * NS_OF_MS


# ---- How many.

cdef bint quota_enter(quota_t* q) noexcept nogil:
    cdef uint32_t active = add_u32(&q.active, 1)
    cdef uint32_t most = load_u32(&q.most)

    # Take first and look then: two workers never both get the last place.
    if most == 0 or active <= most:
        return True
    sub_u32(&q.active, 1)
    return False


cdef void quota_leave(quota_t* q) noexcept nogil:
    sub_u32(&q.active, 1)


# ---- How fast. Products fit: a rate is at most 2^33 bytes/s (MAX_RATE of policy.py), a
# burst a second of that, and what is charged at once a few MiB.

cdef inline uint64_t burst_ns(uint64_t per_s) noexcept nogil:
    if per_s >= QUOTA_BURST_LEAST:
        return <uint64_t>QUOTA_BURST_MS * NS_OF_MS
    return <uint64_t>QUOTA_BURST_LEAST * NS_OF_S // per_s


cdef uint64_t quota_wait(
    const quota_t* q, uint64_t now_ms, size_t* room
) noexcept nogil:
    cdef uint64_t per_s = load_u64(&q.per_s)
    cdef uint64_t paid = load_u64(&q.paid_ns)
    cdef uint64_t now = now_ms * NS_OF_MS
    cdef uint64_t limit
    cdef uint64_t bytes

    if per_s == 0:
        return 0
    limit = now + burst_ns(per_s)
    if paid > limit:
        limit = (paid - limit + NS_OF_MS - 1) // NS_OF_MS  # at least 1
        return limit if limit < QUOTA_WAIT_MOST_MS else QUOTA_WAIT_MOST_MS
    bytes = (limit - (paid if paid > now else now)) * per_s // NS_OF_S
    if bytes < QUOTA_STEP:
        bytes = QUOTA_STEP
    if bytes < room[0]:
        room[0] = bytes
    return 0


cdef void quota_charge(quota_t* q, uint64_t bytes, uint64_t now_ms) noexcept nogil:
    cdef uint64_t per_s = load_u64(&q.per_s)
    cdef uint64_t now = now_ms * NS_OF_MS
    cdef uint64_t paid, cost

    if per_s == 0 or bytes == 0:
        return
    cost = bytes * NS_OF_S // per_s
    paid = load_u64(&q.paid_ns)
    while not cas_u64(&q.paid_ns, &paid, (paid if paid > now else now) + cost):
        pass


# ---- The door for tests.

cdef class Bucket:
    """A quota by itself, with a clock of the test's own."""

    cdef quota_t* quota

    def __cinit__(self, uint32_t most=0, uint64_t per_s=0):
        self.quota = quota_new()
        if self.quota == NULL:
            raise MemoryError
        self.quota.most = most
        self.quota.per_s = per_s

    def __dealloc__(self):
        quota_release(self.quota)

    def enter(self):
        """Take a place; return whether there was one."""
        return quota_enter(self.quota)

    def leave(self):
        """Give a place back."""
        quota_leave(self.quota)

    def wait(self, uint64_t now_ms, size_t room):
        """Return (ms to wait, bytes that may be moved)."""
        cdef size_t left = room
        ms = quota_wait(self.quota, now_ms, &left)
        return ms, left

    def charge(self, uint64_t bytes, uint64_t now_ms):
        """So many bytes were moved."""
        quota_charge(self.quota, bytes, now_ms)

    def is_idle(self, uint64_t now_ms):
        """Whether it may be forgotten."""
        return quota_is_idle(self.quota, now_ms)
