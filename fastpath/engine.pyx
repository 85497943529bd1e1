"""Python's door to the data plane: tables in, counters and notices out.

Everything here runs on Python's threads, a call at a time. What workers read is
published with one store and freed when all of them have moved on.
"""

import os
import sys
import threading
import time
import warnings

from cpython.ref cimport Py_INCREF
from libc.errno cimport EAGAIN
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from fastpath.fleet cimport WORKERS_MOST, fleet_t
from fastpath.linux.atomic cimport (
    acquire_u64,
    load_u32,
    release_ptr,
    store_u32,
    store_u64,
)
from fastpath.linux.clock cimport clock_us
from fastpath.mailbox cimport (
    LETTER,
    LETTER_RESET,
    LETTER_STOP,
    SLOT_ALL,
    letter_t,
    mailbox_fini,
    mailbox_init,
    mailbox_push,
    mailbox_sleep,
    mailbox_wake,
)
from fastpath.registry cimport (
    HEALTH_DEAD,
    HEALTH_DRAINING,
    HEALTH_READY,
    Registry,
    backend_state_t,
)
from fastpath.stats cimport (
    backend_stats,
    backend_stats_t,
    stats_reserve,
    vip_stats,
    vip_stats_t,
)
from fastpath.table cimport PoolBlock, TableBlock, VipBlock
from fastpath.tally cimport tally, tally_notices
from fastpath.worker cimport Worker, worker_free, worker_new

from fastpath.errors import EngineError
from fastpath.listener import close_listeners, open_listeners, set_listeners
from fastpath.table import Table

cdef enum:
    NOTICES = 1024
    PATIENCE_MS = 1000   # for workers to take over a table

HEALTH = {"ready": HEALTH_READY, "draining": HEALTH_DRAINING, "dead": HEALTH_DEAD}


cdef class Engine:
    """Workers that forward what a table says. See engine.pyi for the types.

    Raises:
        ValueError: more than 64 workers, or fewer than one.
        OSError: no descriptors for the workers.
    """

    cdef fleet_t fleet
    cdef Registry registry
    cdef TableBlock current      # published
    cdef TableBlock previous     # until all workers have left it
    cdef dict blocks             # key of a vip -> VipBlock
    cdef dict listening          # key of a vip -> (address, fds), the workers' fds
    cdef list threads
    cdef object lock
    cdef bint closed

    def __cinit__(self, workers=None, *, pipe_bytes=1048576, bint splice=True):
        # First: __dealloc__ closes it, and zero is somebody's standard input.
        self.fleet.notices.wake_fd = -1
        count = workers if workers is not None else len(os.sched_getaffinity(0))
        if not 1 <= count <= WORKERS_MOST:
            raise ValueError(f"workers: {count} is not in 1-{WORKERS_MOST}")
        self.registry = Registry()
        self.blocks = {}
        self.listening = {}
        self.threads = []
        self.lock = threading.Lock()
        self.current = TableBlock(0, 0, (), {}, ())
        self.fleet.table = self.current.table
        self._start(count, pipe_bytes, splice)

    def _start(self, int count, size_t pipe_bytes, bint splice):
        cdef Worker worker
        cdef int i

        if mailbox_init(&self.fleet.notices, NOTICES) < 0:
            raise OSError("no memory or descriptors for the notices")
        mailbox_sleep(&self.fleet.notices)
        for i in range(count):
            self.fleet.workers[i] = worker_new(&self.fleet, i, pipe_bytes, splice)
            if self.fleet.workers[i] == NULL:
                raise OSError("no memory or descriptors for a worker")
            self.fleet.count = i + 1
        for i in range(count):
            worker = Worker()
            worker.worker = self.fleet.workers[i]
            thread = threading.Thread(
                target=worker.run, name=f"fastpath-{i}", daemon=True
            )
            thread.start()
            self.threads.append(thread)

    def __del__(self):
        if self.closed or not self.threads:
            return
        if sys.is_finalizing():
            Py_INCREF(self)  # the threads end with the process; until then they read
        else:
            warnings.warn("an Engine was never closed", ResourceWarning, source=self)
            self.close()

    def __dealloc__(self):
        cdef int i

        # After close(), or when the constructor failed before any thread started.
        if not self.threads:
            for i in range(self.fleet.count):
                worker_free(self.fleet.workers[i])
            mailbox_fini(&self.fleet.notices)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    @property
    def generation(self):
        """Number of the table in use; 0 before the first."""
        return self.current.table.generation

    @property
    def workers(self):
        """How many threads serve."""
        return self.fleet.count

    # ---- Tables.

    def apply(self, table):
        """Serve `table` from now on; return its generation.

        New vips are bound before anything changes. Vips that are gone stop listening;
        their relays go on, as do those of backends that are gone.

        Raises:
            OSError: a vip cannot be bound; the table before stays.
            EngineError: closed, or a worker has not taken over the last table.
        """
        with self.lock:
            self._check_open()
            if not isinstance(table, Table):
                raise TypeError("apply takes a Table")
            self._settle()
            opened = self._open_listeners(table)
            try:
                blocks = self._build(table, opened)
            except BaseException:
                self._abandon(opened)
                raise
            gone = [key for key in self.listening if key not in table.vips]
            return self._publish(blocks, opened, gone)

    def _open_listeners(self, table):
        """Bind vips that are not bound yet: key -> (address, fds)."""
        opened = {}
        try:
            for key, vip in table.vips.items():
                if key not in self.listening:
                    opened[key] = open_listeners(vip, self.fleet.count)
        except BaseException:
            self._abandon(opened)
            raise
        return opened

    def _abandon(self, opened):
        for key, (_, fds) in opened.items():
            close_listeners(fds)
            if key in self.registry.vip_slots:
                self.registry.drop_vip(key)

    def _build(self, table, opened):
        """VipBlocks of a table; what did not change stays the same block."""
        blocks = {}
        for key, vip in table.vips.items():
            old = self.blocks.get(key)
            if old is not None and old.spec == vip:
                blocks[key] = old
                continue
            bound, fds = opened[key] if key in opened else self.listening[key]
            if old is not None and old.spec.pool == vip.pool:
                pool = old.pool
            else:
                pool = PoolBlock(vip.pool, self.registry)
            by_source = vip.max_connections_per_source or vip.max_new_per_s_per_source
            slot = self.registry.take_vip(key, bool(by_source))
            blocks[key] = VipBlock(vip, pool, slot, bound)
            if old is not None:
                set_listeners(vip, fds)
        return blocks

    def _publish(self, blocks, opened, gone):
        """Hand the table to the workers in one step and wait for them."""
        cdef TableBlock table
        cdef int i

        for i in range(self.fleet.count):
            if stats_reserve(
                &self.fleet.workers[i].stats,
                self.registry.vip_count,
                self.registry.backend_count,
            ) < 0:
                raise MemoryError
        slots = {block.spec.key: block.slot for block in self.blocks.values()}
        slots.update((key, block.slot) for key, block in blocks.items())
        table = TableBlock(
            self.current.table.generation + 1,
            self.registry.vip_count,
            blocks.values(),
            {slots[key]: fds for key, (_, fds) in opened.items()},
            [slots[key] for key in gone],
        )
        for key in self.blocks:
            if key not in blocks:
                self.registry.drop_vip(key)
        for key in gone:
            del self.listening[key]
        self.listening.update(opened)
        self.blocks = blocks
        self.previous = self.current
        self.current = table
        release_ptr(&self.fleet.table, table.table)
        for i in range(self.fleet.count):
            mailbox_wake(&self.fleet.workers[i].mailbox)
        self._settle(patient=False)
        return table.table.generation

    def _settle(self, patient=True):
        """Wait until no worker uses the previous table, then free it."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        pause_s = 0.00002
        while self.previous is not None and not self._all_moved_on():
            if time.monotonic() > deadline:
                if patient:
                    raise EngineError("a worker has not taken over the last table")
                return
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.005)
        if self.previous is not None:
            self.previous = None
            self._collect()

    cdef bint _all_moved_on(self):
        cdef uint64_t generation = self.current.table.generation
        cdef int i

        for i in range(self.fleet.count):
            if acquire_u64(&self.fleet.workers[i].generation) != generation:
                return False
        return True

    def _collect(self):
        """Slots that came free start from zero for whoever gets them next."""
        cdef int i

        backends, vips = self.registry.collect()
        for i in range(self.fleet.count):
            for slot in backends:
                memset(
                    backend_stats(&self.fleet.workers[i].stats, slot),
                    0, sizeof(backend_stats_t),
                )
            for slot in vips:
                memset(
                    vip_stats(&self.fleet.workers[i].stats, slot),
                    0, sizeof(vip_stats_t),
                )

    def address(self, vip):
        """(host, port) that a Vip, or the vip of a key, is bound to."""
        key = vip if isinstance(vip, tuple) else vip.key
        return self.listening[key][0]

    # ---- Backends.

    cdef uint32_t _slot(self, key) except *:
        slot = self.registry.backend_slots.get(key)
        if slot is None or self.registry.users[slot] == 0:
            raise KeyError(key)
        return slot

    def set_health(self, backend, health):
        """Say how the backend (host, port) is; KeyError if no table names it.

        Only "ready" takes new relays. Live relays are not touched: see reset.
        """
        cdef backend_state_t* state = self.registry.backend(self._slot(backend))
        cdef uint32_t before = load_u32(&state.health)
        cdef uint32_t now = HEALTH[health]

        if now == HEALTH_READY and before != HEALTH_READY:
            store_u64(&state.up_since_ms, clock_us() // 1000)
            store_u32(&state.failures, 0)
            store_u32(&state.ejections, 0)
            store_u64(&state.ejected_until_ms, 0)
        store_u32(&state.health, now)

    def drain(self, backend=None):
        """No new relays for a backend; without one: stop listening, on all vips.

        Live relays go on. A later apply listens again.
        """
        if backend is not None:
            self.set_health(backend, "draining")
            return
        with self.lock:
            self._check_open()
            self._settle()
            self._publish(dict(self.blocks), {}, list(self.listening))

    def reset(self, backend=None):
        """Reset the live relays of a backend (host, port), or all. Returns at once."""
        self._check_open()
        self._send(LETTER_RESET, SLOT_ALL if backend is None else self._slot(backend))

    cdef _send(self, LETTER kind, uint32_t slot):
        cdef letter_t letter
        cdef int i

        memset(&letter, 0, sizeof(letter))
        letter.kind = kind
        letter.fd = -1
        letter.slot = slot
        for i in range(self.fleet.count):
            deadline = time.monotonic() + PATIENCE_MS / 1000
            while mailbox_push(&self.fleet.workers[i].mailbox, &letter) == -EAGAIN:
                if time.monotonic() > deadline:
                    raise EngineError("a worker does not read its mailbox")
                time.sleep(0.001)

    # ---- Watching.

    def notices(self):
        """What happened to backends since the last call, oldest first."""
        self._check_open()
        return tally_notices(&self.fleet.notices, self.registry)

    def fileno(self):
        """Descriptor that is readable when there are notices; the engine's own."""
        self._check_open()
        return self.fleet.notices.wake_fd

    def stats(self):
        """All counters as they stand, summed over the workers."""
        self._check_open()
        slots = {key: block.slot for key, block in self.blocks.items()}
        return tally(&self.fleet, self.registry, slots, self.generation)

    cdef _check_open(self):
        if self.closed:
            raise EngineError("the engine is closed")

    def close(self):
        """Reset live relays, stop listening, end the threads. Again does nothing."""
        cdef int i

        with self.lock:
            if self.closed:
                return
            self._send(LETTER_STOP, 0)
            self.closed = True
            for thread in self.threads:
                thread.join()
            self.threads = []
            for i in range(self.fleet.count):
                worker_free(self.fleet.workers[i])
            self.fleet.count = 0
            mailbox_fini(&self.fleet.notices)
            self.blocks = {}
            self.listening = {}
            self.previous = None
