"""The timer wheel of a worker: O(1) to arm and disarm, no memory of its own."""

from libc.string cimport memset
from fastpath.base.linux.bytes cimport ctz64

cdef extern from * nogil:
    int ctz64 "__builtin_ctzll"(unsigned long long bits)


cdef inline void list_init(timer_t* head) noexcept nogil:
    head.prev = head
    head.next = head


cdef inline void list_append(timer_t* head, timer_t* t) noexcept nogil:
    t.prev = head.prev
    t.next = head
    head.prev.next = t
    head.prev = t


cdef void wheel_init(wheel_t* w, uint64_t now_ms) noexcept nogil:
    cdef int i

    memset(w, 0, sizeof(wheel_t))
    for i in range(WHEEL_SLOTS):
        list_init(&w.slots[i])
    list_init(&w.due)
    w.tick = now_ms // WHEEL_TICK_MS


cdef void timer_arm(wheel_t* w, timer_t* t, uint64_t deadline_ms) noexcept nogil:
    # Rounded up: a slot is looked at when all of its deadlines have passed.
    cdef uint64_t tick = (deadline_ms + WHEEL_TICK_MS - 1) // WHEEL_TICK_MS
    cdef int slot

    timer_disarm(t)
    t.deadline_ms = deadline_ms
    if tick <= w.tick:  # passed already: the next tick is the first to come by
        tick = w.tick + 1
    slot = tick % WHEEL_SLOTS
    list_append(&w.slots[slot], t)
    w.filled[slot // 64] |= <uint64_t>1 << (slot % 64)


cdef void timer_disarm(timer_t* t) noexcept nogil:
    if t.prev == NULL:
        return
    t.prev.next = t.next
    t.next.prev = t.prev
    t.prev = NULL
    t.next = NULL


cdef void slot_expire(wheel_t* w, int slot, uint64_t now_ms) noexcept nogil:
    cdef timer_t* head = &w.slots[slot]
    cdef timer_t* t = head.next
    cdef timer_t* following

    while t != head:
        following = t.next
        if t.deadline_ms <= now_ms:
            timer_disarm(t)
            list_append(&w.due, t)
        t = following
    if head.next == head:
        w.filled[slot // 64] &= ~(<uint64_t>1 << (slot % 64))


cdef timer_t* wheel_pop(wheel_t* w, uint64_t now_ms) noexcept nogil:
    cdef uint64_t tick = now_ms // WHEEL_TICK_MS
    cdef timer_t* t

    # After a long sleep one whole turn sees every slot.
    if tick > w.tick + WHEEL_SLOTS:
        w.tick = tick - WHEEL_SLOTS
    while w.tick < tick:
        w.tick += 1
        slot_expire(w, w.tick % WHEEL_SLOTS, now_ms)
    t = w.due.next
    if t == &w.due:
        return NULL
    timer_disarm(t)
    return t


cdef int wheel_wait_ms(const wheel_t* w, uint64_t now_ms) noexcept nogil:
    cdef int start = (w.tick + 1) % WHEEL_SLOTS
    cdef int word = start // 64
    cdef uint64_t bits = w.filled[word] & (~<uint64_t>0 << (start % 64))
    cdef int _i, slot, ahead
    cdef uint64_t when_ms

    if w.due.next != &w.due:
        return 0
    for _i in range(WHEEL_WORDS + 1):
        if bits != 0:
            slot = word * 64 + ctz64(bits)
            ahead = (slot - start + WHEEL_SLOTS) % WHEEL_SLOTS
            when_ms = (w.tick + 1 + ahead) * WHEEL_TICK_MS
            return <int>(when_ms - now_ms) if when_ms > now_ms else 0
        word = (word + 1) % WHEEL_WORDS
        bits = w.filled[word]
    return -1


cdef class Wheel:
    """The wheel for tests: timers are numbers, the test gives the time."""

    cdef wheel_t wheel
    cdef timer_t timers[256]

    def __cinit__(self, uint64_t now_ms):
        memset(self.timers, 0, sizeof(self.timers))
        wheel_init(&self.wheel, now_ms)

    def arm(self, int number, uint64_t deadline_ms):
        timer_arm(&self.wheel, &self.timers[number & 255], deadline_ms)

    def disarm(self, int number):
        timer_disarm(&self.timers[number & 255])

    def pop(self, uint64_t now_ms):
        """Numbers of the expired timers, in the order they are popped."""
        cdef timer_t* t = wheel_pop(&self.wheel, now_ms)
        expired = []
        while t != NULL:
            expired.append(t - self.timers)
            t = wheel_pop(&self.wheel, now_ms)
        return expired

    def wait_ms(self, uint64_t now_ms):
        return wheel_wait_ms(&self.wheel, now_ms)
