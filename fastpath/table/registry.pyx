"""Slots and state of what tables name, kept across tables.

A slot belongs to its key for as long as a block names it, in the table in force or in
one that a worker still reads: blocks are freed when no worker can read them any more.
The slot is given to another key only when its last relay has gone, too, because until
then a worker may count there.
"""

from itertools import islice

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
        self.users = []
        self.retired = {}
        self.unused = []

    def __dealloc__(self):
        cdef uint32_t i

        for i in range(self.chunk_count):
            free(self.chunks[i])
        free(self.chunks)

    cdef void* state(self, uint32_t slot):
        # In chunks: a state must not move, because workers keep pointers to it.
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
            if self.users[slot] == 0:
                del self.retired[key]  # it comes back before it was collected
            self.users[slot] += 1
            return slot
        slot = self._new_slot()
        try:
            self.slots[key] = slot
        except MemoryError:
            self.lost = True  # not in use, and not in `unused` either
            raise
        state = <state_t*>self.state(slot)
        memset(state, 0, STATE_BYTES)
        state.slot = slot
        self.keys[slot] = key
        self.users[slot] = 1
        return slot

    cdef uint32_t _new_slot(self) except? 0xffffffff:
        cdef uint32_t slot = len(self.keys)

        # A used slot first: arrays by slot, of tables and of counters, stay short.
        if self.unused:
            return self.unused.pop()
        if slot >= self.most:
            raise TableError(f"more than {self.most} of a kind in a table")
        if slot // CHUNK == self.chunk_count:
            self._grow()
        self.users.append(0)
        try:
            self.keys.append(None)  # the last: its length is the number of slots
        except MemoryError:
            self.users.pop()
            raise
        return slot

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

    cdef void drop(self, uint32_t slot):
        """One block less names the key of `slot`."""
        # Retired, not freed: relays may live on, and the key may come back with them.
        self.users[slot] -= 1
        if self.users[slot] == 0:
            self.dropped += 1
            self._retire(slot)

    def named(self, key):
        """Return whether a block names the key."""
        slot = self.slots.get(key)
        return slot is not None and self.users[slot] > 0

    def __len__(self):
        return len(self.slots)

    def collect(self):
        """Free slots that nothing uses any more; return them.

        Looks at the longest retired first, at twice as many as were retired since the
        last time: their number falls, and the cost is in proportion to the changes.
        Those that still have relays go to the end of the line.
        """
        freed = []
        if self.lost:
            self._find_lost()
        if not self.retired:
            return freed
        look = COLLECT_LEAST + 2 * self.dropped
        self.dropped = 0
        try:
            for key in list(islice(self.retired, look)):
                slot = self.slots[key]
                # Only falls to 0 for good: no block names it, so no new relay comes.
                if load_u32(&(<state_t*>self.state(slot)).active) > 0:
                    del self.retired[key]
                    self._retire(slot)
                    continue
                # After a MemoryError in between, _find_lost finds the slot.
                freed.append(slot)
                del self.retired[key]
                del self.slots[key]
                self.keys[slot] = None
                self.unused.append(slot)
        except MemoryError:  # return those that were freed: their counters must go
            self.lost = True
        return freed

    cdef void _retire(self, uint32_t slot):
        try:
            self.retired[self.keys[slot]] = None
        except MemoryError:  # called by __dealloc__, which cannot raise
            self.lost = True

    def _find_lost(self):
        """Find the slots that a MemoryError kept out of `unused` and `retired`."""
        # Built aside, and taken over at the end: out of memory again changes nothing.
        unused = set(self.unused)
        retired = dict(self.retired)
        for slot, key in enumerate(self.keys):
            if key is None:
                unused.add(slot)
            elif self.users[slot] == 0:
                retired[key] = None
        self.unused, self.retired = list(unused), retired
        self.lost = False


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

    cdef backend_state_t* backend(self, uint32_t slot):
        return <backend_state_t*>self.backends.state(slot)

    cdef uint32_t take_backend(self, tuple key) except? 0xffffffff:
        """Slot of a backend, for one more pool that names it."""
        cdef bint came_back = key in self.backends.retired
        cdef uint32_t slot = self.backends.take(key)

        if came_back:
            # It had left the table, though its relays may live on. What was known of it
            # then is no longer true: it starts as a new backend does.
            _forget_health(self.backend(slot))
        return slot

    cdef void tell(self, uint32_t slot, uint32_t health, uint64_t now_ms):
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

    def collect(self):
        """Free what is unused; return the slots of backends, vips and upstreams."""
        cdef vip_state_t* state

        # The state is cleared before the slot has a new key: a vip starts from zero.
        vips = self.vips.collect()
        for slot in vips:
            state = <vip_state_t*>self.vips.state(slot)
            free(state.sketch)
            memset(state, 0, STATE_BYTES)
        self.pools.collect()
        return self.backends.collect(), vips, self.upstreams.collect()


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
