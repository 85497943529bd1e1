"""Tables on their way to the workers, and out of use again.

A table is published with one store. Workers take it at the top of their loops and may
skip some; the publisher waits for none of them. What a table has replaced is freed when
no worker reads it any more, and with it go slots, counters and listener changes.

What an update runs, here and in `table`, has no list comprehension: Cython 3.3.1 frees
an item twice for which the list finds no room (__Pyx_ListComp_AppendAndDecref).
"""

import time

from fastpath.base.linux.atomic cimport acquire_ptr, acquire_u64, fence, release_ptr
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.mailbox cimport mailbox_wake
from fastpath.stats_report cimport report_forget
from fastpath.table.keep cimport keep_all
from fastpath.table.listener cimport OtherOptions
from fastpath.table.table cimport table_t

from fastpath.api.spec import Delta
from fastpath.table.delta import State
from fastpath.table.draft import Draft
from fastpath.table.registry import HEALTHS


cdef TableBlock draft_table(TableBlock current, draft):
    """The table that a draft makes of the one in force."""
    state = draft.state
    lost, found = [], []
    ended = False
    for key, block in draft.vips.items():
        old = state.vips.get(key)
        if old is not None and not old.spec.bind:
            lost.append(old)
        if block is None and key[0] == "udp":
            ended = True
        if block is not None and not block.spec.bind:
            found.append(block)
    return TableBlock(
        current,
        _by_slot(draft.vips, state.vips),
        _by_slot(draft.pools, state.pools),
        _by_slot(draft.upstreams, state.upstreams),
        (lost, found),
        ended,
    )


cdef dict _by_slot(dict changes, dict old):
    return {
        (block if block is not None else old[key]).slot: block
        for key, block in changes.items()
        if block is not None or key in old
    }


cdef list _check_health(Registry registry, health):
    """Slots and what to say of them: before anything is done that had to be undone."""
    told = []
    for key, how in health.items():
        told.append((registry.named(key), HEALTHS[how]))
    return told


cdef class Publisher:
    """The table in force, and those before it that workers may still read."""

    def __cinit__(self, int workers):
        self.registry = Registry()
        self.state = State(self.registry, workers)
        self.replaced = []
        self.changes = Changes()
        self.current = TableBlock()

    cdef begin(self, fleet_t* fleet):
        """Start from the empty table, before there are workers."""
        self.fleet = fleet
        fleet.table = &self.current.table

    cdef change(self, delta, health, sockets, VerdictApi verdicts):
        """Check, build and publish; or raise, and nothing has changed."""
        try:
            draft = Draft(self.state, delta, sockets)
            try:
                self._keep(draft, health, verdicts)
            except BaseException:
                draft.drop()
                raise
        except BaseException:
            self._reap()  # of refusals before this one, else slots would run out
            raise
        self._reap()

    cdef Edition _edition(self, draft):
        cdef Edition e = Edition()

        e.table = draft_table(self.current, draft)
        e.changes = self.changes.draft(e.table.generation, draft)
        e.replaced = self.replaced + [self.current]  # not by [*...]: see table
        e.told, e.options = [], []
        return e

    cdef _keep(self, draft, health, VerdictApi verdicts):
        """Make the draft the state, and publish it."""
        cdef Edition e = self._edition(draft)
        cdef dict listening = self.state.listening
        cdef dict meant = verdicts.meanings(draft.vips)
        cdef list pairs = draft.changes()

        e.told = _check_health(self.registry, health)
        for spec in draft.changed:
            e.options.append(OtherOptions(spec, listening[spec.key].sockets))
        e.forgets = verdicts.differs(meant)
        pairs.append((verdicts.meant, meant))
        keep_all(pairs)
        # Nothing can fail from here on; nor may Python run, which could be interrupted.
        self._publish(e)
        if e.forgets:
            verdicts.tags.forget_all()

    cdef void _publish(self, Edition e) noexcept:
        """Hand the table to the workers in one step."""
        cdef OtherOptions options
        cdef uint64_t now_ms = clock_us() // 1000
        cdef int i

        for slot, how in e.told:
            self.registry.tell(slot, how, now_ms)
        for options in e.options:
            options.set()
        self.changes.append(&self.fleet.changes, e.changes)
        self.replaced = e.replaced
        self.current = e.table
        release_ptr(&self.fleet.table, &e.table.table)
        fence()  # see worker_claim
        for i in range(self.fleet.count):
            mailbox_wake(&self.fleet.workers[i].mailbox)

    cdef _reap(self):
        """Free tables that no worker reads, then slots that nothing uses.

        What there is no memory for is done the next time: the table is published.
        """
        try:
            self.replaced = self._still_read()
        except MemoryError:
            pass
        self.changes.reap(self._taken())
        # In this order: the next owner of a slot starts from zero.
        self.registry.gather()
        report_forget(self.fleet, self.registry)
        self.registry.release()

    cdef list _still_read(self):
        """Tables that workers read; no name in here outlives the others."""
        cdef TableBlock table
        kept = []

        for table in self.replaced:
            if self._is_read(table):
                kept.append(table)
        return kept

    cdef bint _is_read(self, TableBlock block) noexcept:
        cdef const table_t* table = &block.table
        cdef int i

        for i in range(self.fleet.count):
            if acquire_ptr(&self.fleet.workers[i].claimed) == table or (
                acquire_ptr(&self.fleet.workers[i].using) == table
            ):
                return True
        return False

    cdef uint64_t _taken(self) noexcept:
        """The newest generation that all workers have reached."""
        cdef uint64_t least = self.current.table.generation
        cdef uint64_t generation
        cdef int i

        for i in range(self.fleet.count):
            generation = acquire_u64(&self.fleet.workers[i].generation)
            if generation < least:
                least = generation
        return least

    def stop_listening(self):
        """Publish the same table, on which nothing listens."""
        draft = Draft(self.state, Delta(), {})
        draft.closed = list(self.state.listening)
        draft.drains = True
        edition = self._edition(draft)
        keep_all(draft.changes())
        self._publish(edition)
        self._reap()

    def reap(self):
        """Free what has gone out of use since."""
        self._reap()

    def settle(self, wait_s):
        """Wait until all workers use the table in force; return whether they do."""
        deadline = time.monotonic() + wait_s
        pause_s = 0.00002
        while self._taken() < self.current.table.generation:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.005)
        return True

    cdef close(self):
        """No worker is left."""
        self.state = State(self.registry, 1)
        self.changes.close()
        self.replaced = []
