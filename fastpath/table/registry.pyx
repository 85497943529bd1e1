"""Slots and state of what tables name, kept across tables.

A slot belongs to its key for as long as a block names it, in the table in force or in
one that a worker still reads: blocks are freed when no worker can read them any more.
The slot is given to another key only when its last relay has gone, too, because until
then a worker may count there.
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from fastpath.base.linux.atomic cimport load_u32, store_u32, store_u64

from fastpath.api.errors import TableError

cdef extern from "<stdlib.h>" nogil:
    void* aligned_alloc(size_t alignment, size_t size)

cdef enum:
    CHUNK = 64                # states in a chunk; a chunk never moves
    MOST_BACKENDS = 1048576   # SLOTS_MOST of base/stats
    MOST_VIPS = 131072
    COLLECT_LEAST = 256       # retired keys looked at in one go

HEALTHS = {"ready": HEALTH_READY, "draining": HEALTH_DRAINING, "dead": HEALTH_DEAD}


cdef class Numbers:
    """Numbers for keys; owns the state behind each."""

    def __cinit__(self, uint32_t most):
        self.most = most
        self.slots = {}
        self.keys = []
        self.retired.first = self.freed.first = self.unused.first = SLOT_END

    def __dealloc__(self):
        cdef uint32_t i

        for i in range(self.chunk_count):
            free(self.chunks[i])
        free(self.chunks)

    cdef void* state(self, uint32_t slot) noexcept:
        return self.chunks[slot // CHUNK] + (slot % CHUNK) * STATE_BYTES

    cdef object key(self, uint32_t slot):
        return self.keys[slot] if slot < len(self.keys) else None

    cdef uint32_t take(self, key) except? 0xffffffff:
        """Slot of `key`, for one more block that names it."""
        cdef uint32_t slot
        cdef state_t* state
        # A key that has a slot keeps it, with what is counted there. For a new one the
        # steps are in an order in which a MemoryError leaves no trace but `lost`.
        found = self.slots.get(key)
        if found is not None:
            slot = found
            state = <state_t*>self.state(slot)
            if state.users == 0:
                self._unlink(&self.retired, slot)
            state.users += 1
            return slot
        if self.unused.first == SLOT_END:
            self._new_slot()
        slot = self.unused.first
        self.slots[key] = slot  # the last that may fail; until then it is unused
        self._unlink(&self.unused, slot)
        state = <state_t*>self.state(slot)
        memset(state, 0, STATE_BYTES)
        state.slot = slot
        state.users = 1
        self.keys[slot] = key
        return slot

    cdef int _new_slot(self) except -1:
        """Make one more, unused."""
        cdef uint32_t slot = len(self.keys)

        if slot >= self.most:
            raise TableError(f"more than {self.most} of a kind in a table")
        if slot // CHUNK == self.chunk_count:
            self._grow()
        self.keys.append(None)
        self._link(&self.unused, slot)
        return 0

    def _grow(self):
        cdef size_t count = self.chunk_count + 1
        cdef char** chunks = <char**>realloc(self.chunks, count * sizeof(char*))

        if chunks == NULL:
            raise MemoryError
        self.chunks = chunks
        # On cache lines: two workers that count at neighbours do not share one.
        chunks[count - 1] = <char*>aligned_alloc(STATE_BYTES, CHUNK * STATE_BYTES)
        if chunks[count - 1] == NULL:
            raise MemoryError
        memset(chunks[count - 1], 0, CHUNK * STATE_BYTES)
        self.chunk_count += 1

    # Blocks are freed where nothing may be raised, so from here on nothing can be.

    cdef void drop(self, uint32_t slot) noexcept:
        """One block less names the key of `slot`."""
        cdef state_t* state = <state_t*>self.state(slot)

        state.users -= 1
        if state.users == 0:
            self.dropped += 1
            self._link(&self.retired, slot)

    cdef void _link(self, line_t* line, uint32_t slot) noexcept:
        cdef state_t* state = <state_t*>self.state(slot)

        state.next = SLOT_END
        if line.first == SLOT_END:
            state.before = SLOT_END
            line.first = slot
        else:
            state.before = line.last
            (<state_t*>self.state(line.last)).next = slot
        line.last = slot

    cdef void _unlink(self, line_t* line, uint32_t slot) noexcept:
        cdef state_t* state = <state_t*>self.state(slot)

        if state.before == SLOT_END:
            line.first = state.next
        else:
            (<state_t*>self.state(state.before)).next = state.next
        if state.next == SLOT_END:
            line.last = state.before
        else:
            (<state_t*>self.state(state.next)).before = state.before

    cdef void gather(self) noexcept:
        """Take slots that nothing uses any more from their keys, into `freed`.

        Looks at the longest retired first, at twice as many as were retired since the
        last time: their number falls, and the cost is in proportion to the changes.
        Those that still have relays go to the end of the line.
        """
        cdef uint64_t look = COLLECT_LEAST + 2 * self.dropped
        cdef uint32_t last = self.retired.last
        cdef uint32_t slot = self.retired.first
        cdef bint ends = slot == SLOT_END

        self.dropped = 0
        while look > 0 and not ends:
            slot = self.retired.first
            ends = slot == last
            look -= 1
            self._unlink(&self.retired, slot)
            if load_u32(&(<state_t*>self.state(slot)).active) > 0:
                self._link(&self.retired, slot)
                continue
            self._link(&self.freed, slot)
            del self.slots[self.keys[slot]]
            self.keys[slot] = None

    cdef void release(self) noexcept:
        """What is freed may be given out again."""
        cdef uint32_t slot = self.freed.first

        while slot != SLOT_END:
            self._unlink(&self.freed, slot)
            self._link(&self.unused, slot)
            slot = self.freed.first

    def freed_slots(self):
        """The slots in `freed`."""
        cdef uint32_t slot = self.freed.first
        slots = []

        while slot != SLOT_END:
            slots.append(slot)
            slot = (<state_t*>self.state(slot)).next
        return slots

    cpdef bint named(self, key) except *:
        """Return whether a block names the key."""
        slot = self.slots.get(key)
        return slot is not None and (<state_t*>self.state(slot)).users > 0

    def known(self):
        """Return the keys that blocks name."""
        return [key for key in self.slots if self.named(key)]

    def __len__(self):
        return len(self.slots)


cdef class Registry:
    """The numbers of one engine."""

    def __cinit__(self):
        self.backends = Numbers(MOST_BACKENDS)
        self.pools = Numbers(2 * MOST_VIPS)  # each vip and upstream may have its own
        self.vips = Numbers(MOST_VIPS)
        self.upstreams = Numbers(MOST_VIPS)

    def __dealloc__(self):
        if self.vips is not None and self.vips.keys is not None:
            for slot in range(len(self.vips.keys)):
                free((<vip_state_t*>self.vips.state(slot)).sketch)

    cdef backend_state_t* backend(self, uint32_t slot) noexcept:
        return <backend_state_t*>self.backends.state(slot)

    cdef uint32_t take_backend(self, tuple key) except? 0xffffffff:
        """Slot of a backend, for one more pool that names it."""
        cdef bint had_left = not self.backends.named(key)
        cdef uint32_t slot = self.backends.take(key)

        if had_left:  # though relays of it may live on
            _forget_health(self.backend(slot))
        return slot

    cdef void tell(self, uint32_t slot, uint32_t health, uint64_t now_ms) noexcept:
        """Set what Python thinks of a backend. One that recovers starts afresh."""
        cdef backend_state_t* state = self.backend(slot)
        cdef uint32_t before = load_u32(&state.health)

        # Relaxed stores: for a moment a worker may see it ready and still ejected, and
        # picks another one.
        if health == HEALTH_READY and before != HEALTH_READY:
            store_u64(&state.up_since_ms, now_ms)
            store_u32(&state.failures, 0)
            store_u32(&state.ejections, 0)
            store_u64(&state.ejected_until_ms, 0)
        store_u32(&state.health, health)

    cdef uint32_t named(self, key) except? 0xffffffff:
        """Slot of a backend that a table names; KeyError if none does."""
        if not self.backends.named(key):
            raise KeyError(key)
        return self.backends.slots[key]

    cdef uint32_t take_vip(self, tuple key, bint by_source) except? 0xffffffff:
        """Slot of a vip; with counters by source where it limits by source."""
        cdef uint32_t slot = self.vips.take(key)
        cdef vip_state_t* state = <vip_state_t*>self.vips.state(slot)

        if by_source and state.sketch == NULL:
            state.sketch = <sketch_t*>calloc(1, sizeof(sketch_t))
            if state.sketch == NULL:  # one that is there stays until the vip goes
                self.vips.drop(slot)
                raise MemoryError
        return slot

    cdef uint64_t stamp(self):
        """A number that no other upstream ever had."""
        self.stamps += 1
        return self.stamps

    cdef void gather(self) noexcept:
        cdef vip_state_t* state
        cdef uint32_t slot

        self.backends.gather()
        self.pools.gather()
        self.vips.gather()
        self.upstreams.gather()
        slot = self.vips.freed.first
        while slot != SLOT_END:
            state = <vip_state_t*>self.vips.state(slot)
            free(state.sketch)
            state.sketch = NULL
            slot = (<state_t*>state).next

    cdef void release(self) noexcept:
        self.backends.release()
        self.pools.release()
        self.vips.release()
        self.upstreams.release()

    def collect(self):
        """Free what is unused, where there are no counters; for tests.

        Return the slots of backends, vips and upstreams.
        """
        self.gather()
        freed = self.backends, self.vips, self.upstreams
        slots = tuple([numbers.freed_slots() for numbers in freed])
        self.release()
        return slots


cdef void _forget_health(backend_state_t* state) noexcept:
    store_u32(&state.health, HEALTH_READY)
    store_u32(&state.failures, 0)
    store_u32(&state.ejections, 0)
    store_u64(&state.ejected_until_ms, 0)
    store_u64(&state.up_since_ms, 0)


cdef class Slots:
    """The registry for tests, with the relays that workers would count."""

    cdef Registry registry

    def __cinit__(self):
        self.registry = Registry()

    def take(self, tuple key):
        return self.registry.take_backend(key)

    def drop(self, tuple key):
        self.registry.backends.drop(self.registry.backends.slots[key])

    def take_vip(self, tuple key, bint by_source=False):
        return self.registry.take_vip(key, by_source)

    def drop_vip(self, tuple key):
        self.registry.vips.drop(self.registry.vips.slots[key])

    def collect(self):
        backends, vips, _ = self.registry.collect()
        return backends, vips

    def set(self, uint32_t slot, *, uint32_t active=0, uint32_t health=0):
        self.registry.backend(slot).active = active
        self.registry.backend(slot).health = health

    def set_vip(self, uint32_t slot, *, uint32_t active):
        (<state_t*>self.registry.vips.state(slot)).active = active

    def backend(self, uint32_t slot):
        """Address of the state, and (slot, active, health, failures) in it."""
        cdef backend_state_t* s = self.registry.backend(slot)
        return <uintptr_t>s, (s.slot, s.active, s.health, s.failures)

    def vip(self, uint32_t slot):
        """Address of the state, and (slot, active, has a sketch)."""
        cdef vip_state_t* s = <vip_state_t*>self.registry.vips.state(slot)
        return <uintptr_t>s, (s.slot, s.active, s.sketch != NULL)
