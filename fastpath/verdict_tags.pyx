"""Withdrawing verdicts by name, at the cost of one store.

Every withdrawal is a moment. Workers compare the moment at which a verdict was given
with those at which everything, and its tag, was last withdrawn. A question has the
moment at which it was read, which tells whether its verdict was decided before a
withdrawal.
"""

from collections import OrderedDict

from fastpath.base.linux.atomic cimport release_u64
from fastpath.http.verdict cimport TAGS_MOST


cdef class Tags:
    def __cinit__(self):
        self.slots = OrderedDict()

    cdef void forget_all(self) noexcept:
        self.now += 1
        release_u64(&self.epochs.all, self.now)

    cdef forget(self, str tag):
        self.now += 1
        if tag in self.slots:
            slot = self.slots[tag][0]
            self.slots[tag] = (slot, self.now)
            release_u64(&self.epochs.tags[<uint32_t>slot], self.now)
        else:
            # Nothing is remembered under it, but something may be under way.
            self.lost = self.now

    cdef bint is_current(self, uint64_t moment, str tag):
        if moment < self.epochs.all:
            return False
        if not tag:
            return True
        known = self.slots.get(tag)
        return moment >= (self.lost if known is None else <uint64_t>known[1])

    cdef uint32_t slot(self, str tag):
        cdef uint32_t slot

        if not tag:
            return 0
        known = self.slots.get(tag)
        if known is not None:
            self.slots.move_to_end(tag)
            return known[0]
        if len(self.slots) < TAGS_MOST - 1:
            slot = len(self.slots) + 1
        else:
            slot, forgotten = self.slots.popitem(last=False)[1]
            self.lost = max(self.lost, <uint64_t>forgotten)
            self.now += 1
            release_u64(&self.epochs.tags[slot], self.now)
        self.slots[tag] = (slot, self.lost)
        return slot
