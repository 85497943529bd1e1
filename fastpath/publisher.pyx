"""Tables on their way to the workers, and out of use again.

A table is published with one store. Workers take it at the top of their loops and may
skip some; the publisher waits for none of them. What a table has replaced is freed when
no worker reads it any more, and with it go slots, counters and listener changes.
"""

import time

from fastpath.base.linux.atomic cimport acquire_ptr, acquire_u64, fence, release_ptr
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.mailbox cimport mailbox_wake
from fastpath.stats_report cimport report_forget
from fastpath.table.table cimport table_t

from fastpath.api.spec import Delta
from fastpath.table.delta import State
from fastpath.table.draft import Draft
from fastpath.table.listener import set_listeners
from fastpath.table.registry import HEALTHS


cdef TableBlock draft_table(TableBlock current, draft):
    """The table that a draft makes of the one in force."""
    state = draft.state
    lost, found = [], []
    for key, block in draft.vips.items():
        old = state.vips.get(key)
        if old is not None and not old.spec.bind:
            lost.append(old)
        if block is not None and not block.spec.bind:
            found.append(block)
    return TableBlock(
        current,
        _by_slot(draft.vips, state.vips),
        _by_slot(draft.pools, state.pools),
        _by_slot(draft.upstreams, state.upstreams),
        (lost, found),
    )


cdef dict _by_slot(dict changes, dict old):
    return {
        (block if block is not None else old[key]).slot: block
        for key, block in changes.items()
        if block is not None or key in old
    }


cdef list _check_health(Registry registry, health):
    """Slots and their health, looked up before anything that had to be undone."""
    return [(registry.named(key), HEALTHS[how]) for key, how in health.items()]


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

    def change(self, delta, health, sockets):
        """Check, build and publish. Return the VipBlocks that changed, by key."""
        try:
            draft = Draft(self.state, delta, sockets)
        except BaseException:
            self._reap()  # of refusals before this one, else slots would run out
            raise
        try:
            told = _check_health(self.registry, health)
            table = draft_table(self.current, draft)
            changes = self.changes.draft(table.generation, draft)
            replaced = [*self.replaced, self.current]
            draft.commit()
        except BaseException:
            draft.drop()
            self._reap()
            raise
        # From here on nothing can fail.
        now_ms = clock_us() // 1000
        for slot, how in told:
            self.registry.tell(slot, how, now_ms)
        for spec in draft.changed:
            set_listeners(spec, self.state.listening[spec.key].fds)
        self._publish(table, changes, replaced)
        return draft.vips

    cdef _publish(self, TableBlock table, ChangeBatch changes, list replaced):
        """Hand the table to the workers in one step."""
        cdef int i

        self.changes.append(&self.fleet.changes, changes)
        self.replaced = replaced
        self.current = table
        release_ptr(&self.fleet.table, &table.table)
        fence()  # see worker_claim
        for i in range(self.fleet.count):
            mailbox_wake(&self.fleet.workers[i].mailbox)
        self._reap()

    cdef _reap(self):
        """Free tables that no worker reads, then slots that nothing uses.

        What there is no memory for is done the next time: the table is published.
        """
        try:
            self.replaced = [table for table in self.replaced if self._is_read(table)]
            self.changes.reap(self._taken())
            backends, vips, upstreams = self.registry.collect()
            report_forget(self.fleet, backends, vips, upstreams)
        except MemoryError:
            pass

    cdef bint _is_read(self, TableBlock block):
        cdef const table_t* table = &block.table
        cdef int i

        for i in range(self.fleet.count):
            if acquire_ptr(&self.fleet.workers[i].claimed) == table or (
                acquire_ptr(&self.fleet.workers[i].using) == table
            ):
                return True
        return False

    cdef uint64_t _taken(self):
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
        table = draft_table(self.current, draft)
        changes = self.changes.draft(table.generation, draft)
        replaced = [*self.replaced, self.current]
        draft.commit()
        self._publish(table, changes, replaced)

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
