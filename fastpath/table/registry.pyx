"""Slots and state of backends and vips, kept across tables.

A retired slot is given out again only when its last relay has gone: until then a
worker may still count there.
"""

from libc.stdlib cimport calloc, free
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from fastpath.base.linux.atomic cimport load_u32, store_u32, store_u64

from fastpath.api.errors import TableError

cdef extern from "<stdlib.h>" nogil:
    void* aligned_alloc(size_t alignment, size_t size)

cdef enum:
    CHUNK = 64          # states in a chunk; a chunk never moves
    LINE = 64           # bytes; workers that write to neighbours must not meet
    MOST_SLOTS = 65536  # STATS_CHUNK * STATS_CHUNKS


HEALTHS = {"ready": HEALTH_READY, "draining": HEALTH_DRAINING, "dead": HEALTH_DEAD}


cdef class Registry:
    """Numbers for backends and vips; owns their state."""

    def __cinit__(self):
        self.backend_slots = {}
        self.vip_slots = {}
        self.users = {}
        self.backend_chunks = []
        self.vip_chunks = []
        self.retired = {}
        self.retired_vips = {}
        self.free_backends = []
        self.free_vips = []

    def __dealloc__(self):
        for slot in range(self.vip_count):
            free(self.vip(slot).sketch)
        for chunk in [*self.backend_chunks, *self.vip_chunks]:
            free(<void*><uintptr_t>chunk)

    cdef backend_state_t* backend(self, uint32_t slot):
        cdef uintptr_t chunk = self.backend_chunks[slot // CHUNK]
        return &(<backend_state_t*>chunk)[slot % CHUNK]

    cdef vip_state_t* vip(self, uint32_t slot):
        cdef uintptr_t chunk = self.vip_chunks[slot // CHUNK]
        return &(<vip_state_t*>chunk)[slot % CHUNK]

    cdef uint32_t take_backend(self, tuple key) except *:
        """Slot of a backend, for one more pool that names it."""
        cdef uint32_t slot
        found = self.backend_slots.get(key)
        if found is not None:
            slot = found
            if self.users[slot] == 0:  # it had left, though relays of it live on
                del self.retired[key]
                _forget_health(self.backend(slot))
            self.users[slot] += 1
            return slot
        slot = self._new_slot(self.free_backends, self.backend_count)
        if slot == self.backend_count:
            if slot % CHUNK == 0:
                self.backend_chunks.append(_new_chunk(sizeof(backend_state_t)))
            self.backend_count += 1
        memset(self.backend(slot), 0, sizeof(backend_state_t))
        self.backend(slot).slot = slot
        self.backend_slots[key] = slot
        self.users[slot] = 1
        return slot

    cdef void drop_backend(self, tuple key):
        """One pool less names this backend."""
        slot = self.backend_slots[key]
        self.users[slot] -= 1
        if self.users[slot] == 0:
            self.retired[key] = None

    cdef void tell(self, uint32_t slot, uint32_t health, uint64_t now_ms):
        """What Python thinks of a backend. Who recovers starts afresh."""
        cdef backend_state_t* state = self.backend(slot)
        cdef uint32_t before = load_u32(&state.health)

        if health == HEALTH_READY and before != HEALTH_READY:
            store_u64(&state.up_since_ms, now_ms)
            store_u32(&state.failures, 0)
            store_u32(&state.ejections, 0)
            store_u64(&state.ejected_until_ms, 0)
        store_u32(&state.health, health)

    cdef uint32_t named(self, key) except *:
        """Slot of a backend that a table names; KeyError if none does."""
        slot = self.backend_slots.get(key)
        if slot is None or self.users[slot] == 0:
            raise KeyError(key)
        return slot

    cdef uint32_t take_vip(self, tuple key, bint by_source) except *:
        """Slot of a vip; with counters by source where it limits by source."""
        cdef uint32_t slot
        cdef vip_state_t* state
        found = self.vip_slots.get(key)
        if found is not None:
            slot = found
            self.retired_vips.pop(key, None)
        else:
            slot = self._new_slot(self.free_vips, self.vip_count)
            if slot == self.vip_count:
                if slot % CHUNK == 0:
                    self.vip_chunks.append(_new_chunk(sizeof(vip_state_t)))
                self.vip_count += 1
            self.vip_slots[key] = slot
            self.vip(slot).slot = slot  # once: workers read it from now on
        state = self.vip(slot)
        if by_source and state.sketch == NULL:
            state.sketch = <sketch_t*>calloc(1, sizeof(sketch_t))
            if state.sketch == NULL:
                raise MemoryError
        return slot

    cdef uint64_t stamp(self):
        """A number that no other upstream ever had."""
        self.stamps += 1
        return self.stamps

    cdef void drop_vip(self, tuple key):
        """No table names this vip any more."""
        self.retired_vips[key] = None

    def _new_slot(self, list unused, uint32_t count):
        if unused:
            return unused.pop()
        if count >= MOST_SLOTS:
            raise TableError("more than 65536 backends or vips")
        return count

    def collect(self):
        """Free the slots that nobody uses; return those of backends and of vips.

        To be called when all workers have left the old table behind.
        """
        backends, vips = [], []
        for key in list(self.retired):
            slot = self.backend_slots[key]
            if load_u32(&self.backend(slot).active) == 0:
                del self.retired[key], self.backend_slots[key], self.users[slot]
                self.free_backends.append(slot)
                backends.append(slot)
        for key in list(self.retired_vips):
            slot = self.vip_slots[key]
            if load_u32(&self.vip(slot).active) == 0:
                del self.retired_vips[key], self.vip_slots[key]
                free(self.vip(slot).sketch)
                memset(self.vip(slot), 0, sizeof(vip_state_t))
                self.free_vips.append(slot)
                vips.append(slot)
        return backends, vips


cdef void _forget_health(backend_state_t* state) noexcept:
    store_u32(&state.health, HEALTH_READY)
    store_u32(&state.failures, 0)
    store_u32(&state.ejections, 0)
    store_u64(&state.ejected_until_ms, 0)
    store_u64(&state.up_since_ms, 0)


cdef _new_chunk(size_t size):
    cdef void* chunk = aligned_alloc(LINE, CHUNK * size)
    if chunk == NULL:
        raise MemoryError
    memset(chunk, 0, CHUNK * size)
    return <uintptr_t>chunk


cdef class Slots:
    """The registry for tests, with the relays that workers would count."""

    cdef Registry registry

    def __cinit__(self):
        self.registry = Registry()

    def take(self, tuple key):
        return self.registry.take_backend(key)

    def drop(self, tuple key):
        self.registry.drop_backend(key)

    def take_vip(self, tuple key, bint by_source=False):
        return self.registry.take_vip(key, by_source)

    def drop_vip(self, tuple key):
        self.registry.drop_vip(key)

    def collect(self):
        return self.registry.collect()

    def set(self, uint32_t slot, *, uint32_t active=0, uint32_t health=0):
        self.registry.backend(slot).active = active
        self.registry.backend(slot).health = health

    def set_vip(self, uint32_t slot, *, uint32_t active):
        self.registry.vip(slot).active = active

    def backend(self, uint32_t slot):
        """Address of the state, and (slot, active, health, failures) in it."""
        cdef backend_state_t* s = self.registry.backend(slot)
        return <uintptr_t>s, (s.slot, s.active, s.health, s.failures)

    def vip(self, uint32_t slot):
        """Address of the state, and (slot, active, has a sketch)."""
        cdef vip_state_t* s = self.registry.vip(slot)
        return <uintptr_t>s, (s.slot, s.active, s.sketch != NULL)
