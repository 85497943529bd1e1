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

from fastpath.base.linux.atomic cimport acquire_u64, release_ptr
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.mailbox cimport (
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
from fastpath.http.decide cimport letter_burn
from fastpath.stats_report cimport tally, tally_forget, tally_notices, tally_reserve
from fastpath.table.assembly cimport assemble
from fastpath.table.registry cimport Registry
from fastpath.table.table cimport TableBlock
from fastpath.verdict_api cimport Docket, docket_letter
from fastpath.worker.fleet cimport WORKERS_MOST, fleet_t
from fastpath.worker.worker cimport Worker, worker_free, worker_new

from fastpath.api.errors import EngineError
from fastpath.table.registry import HEALTHS
from fastpath.table.table import Table

cdef enum:
    NOTICES = 1024
    QUESTIONS = 4096     # waiting for Python at one time
    PATIENCE_MS = 1000   # for workers to take over a table


cdef class Engine:
    """Workers that forward what a table says. See engine.pyi for the types.

    `verdict_bytes` is how much all of them together may remember of verdicts.

    Raises:
        ValueError: more than 64 workers, or fewer than one; odd `verdict_bytes`.
        OSError: no descriptors for the workers.
    """

    cdef fleet_t fleet
    cdef Registry registry
    cdef TableBlock current      # published
    cdef TableBlock previous     # until all workers have left it
    cdef dict blocks             # key of a vip -> VipBlock
    cdef dict listening          # key of a vip -> (address, fds), the workers' fds
    cdef Docket docket
    cdef list threads
    cdef object lock
    cdef bint closed

    def __cinit__(
        self, workers=None, *, pipe_bytes=1048576, bint splice=True,
        verdict_bytes=67108864,
    ):
        # First: __dealloc__ closes it, and zero is somebody's standard input.
        self.fleet.notices.wake_fd = -1
        self.fleet.questions.wake_fd = -1
        count = workers if workers is not None else len(os.sched_getaffinity(0))
        if not 1 <= count <= WORKERS_MOST:
            raise ValueError(f"workers: {count} is not in 1-{WORKERS_MOST}")
        self.registry = Registry()
        self.blocks = {}
        self.listening = {}
        self.docket = Docket()
        self.docket.open(&self.fleet.epochs, &self.fleet.budget, verdict_bytes, count)
        self.threads = []
        self.lock = threading.Lock()
        self.current = TableBlock(0, 0, (), {}, ())
        self.fleet.table = self.current.table
        self._start(count, pipe_bytes, splice)

    def _start(self, int count, size_t pipe_bytes, bint splice):
        cdef Worker worker
        cdef int i

        if mailbox_init(&self.fleet.notices, NOTICES) < 0 or (
            mailbox_init(&self.fleet.questions, QUESTIONS) < 0
        ):
            raise OSError("no memory or descriptors for the mailboxes")
        mailbox_sleep(&self.fleet.notices)
        mailbox_sleep(&self.fleet.questions)
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
            mailbox_fini(&self.fleet.questions)

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

    def apply(self, table, *, health=None, sockets=None):
        """Serve `table` from now on; return its generation.

        New vips are bound before anything changes. Vips that are gone stop listening;
        their relays go on, as do those of backends that are gone. What `health` says
        of backends holds before the first client of the table comes: see set_health.

        `sockets` has descriptors that listen already, by the key of a vip. Where such a
        vip is new, workers take duplicates of them in turn instead of binding. The
        descriptors stay the caller's; who waits in a socket that somebody else holds,
        too, is not lost when we stop.

        Raises:
            KeyError: the table has no such backend, or there is no such health.
            OSError: a vip cannot be bound, or a descriptor is not what its vip needs;
                the table before stays.
            EngineError: closed, or a worker has not taken over the last table.
        """
        with self.lock:
            self._check_open()
            if not isinstance(table, Table):
                raise TypeError("apply takes a Table")
            self._settle()
            blocks, opened = assemble(
                table, self.blocks, self.listening, self.registry, self.fleet.count,
                health or {}, sockets or {},
            )
            gone = [key for key in self.listening if key not in table.vips]
            self.docket.note(blocks)
            return self._publish(blocks, opened, gone)

    def _publish(self, blocks, opened, gone):
        """Hand the table to the workers in one step and wait for them."""
        cdef TableBlock table
        cdef int i

        for i in range(self.fleet.count):
            tally_reserve(&self.fleet.workers[i].context.stats, self.registry, blocks)
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
            tally_forget(&self.fleet.workers[i].context.stats, backends, vips)

    def address(self, vip):
        """(host, port) that a Vip, or the vip of a key, is bound to."""
        key = vip if isinstance(vip, tuple) else vip.key
        return self.listening[key][0]

    # ---- Backends.

    def set_health(self, backend, health):
        """Say how the backend (host, port) is; KeyError if no table names it.

        Only "ready" takes new relays. Live relays are not touched: see reset.
        """
        slot = self.registry.named(backend)
        self.registry.tell(slot, HEALTHS[health], clock_us() // 1000)

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
        slot = SLOT_ALL if backend is None else self.registry.named(backend)
        self._send(LETTER_RESET, slot)

    cdef _send(self, LETTER kind, uint32_t slot):
        cdef letter_t letter
        cdef int i

        memset(&letter, 0, sizeof(letter))
        letter.kind = kind
        letter.fd = -1
        letter.slot = slot
        for i in range(self.fleet.count):
            self._post(i, &letter)

    cdef _post(self, int worker, const letter_t* letter):
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while mailbox_push(&self.fleet.workers[worker].mailbox, letter) == -EAGAIN:
            if time.monotonic() > deadline:
                raise EngineError("a worker does not read its mailbox")
            time.sleep(0.001)

    # ---- Requests.

    def questions(self):
        """Requests that wait for a verdict, oldest first."""
        self._check_open()
        vips = {block.slot: key for key, block in self.blocks.items()}
        return self.docket.questions(&self.fleet.questions, vips)

    def records(self):
        """Exchanges that ended, of vips that log; as of the last `questions`."""
        return self.docket.records()

    def questions_fileno(self):
        """Descriptor that is readable when there are questions; the engine's own."""
        self._check_open()
        return self.fleet.questions.wake_fd

    def answer(self, question, verdict, *, ttl_s=0.0, key=None, tag=""):
        """Let the request go on as the Forward or Reply says.

        With `ttl_s` > 0, requests that agree with it in the parts `key` share the
        verdict for so many seconds; `forget(tag)` ends that. Answers to clients that
        have gone, or from before a `forget`, come to nothing; in the latter case the
        question comes again.

        Raises:
            KeyError: the table has no such upstream.
            ValueError: `key` has a part that Http.key does not name, or lacks one that
                was read of the question, or is None although `ttl_s` > 0; or no tag.
        """
        cdef letter_t letter

        self._check_open()
        with self.lock:
            vip = self.blocks.get(question.vip)
            if vip is None or vip.spec.http is None:
                return
            block = self.docket.take(verdict, self.blocks)
            docket_letter(
                &letter, question, block, ttl_s, vip.spec.http.key, key, tag,
                self.docket.tags,
            )
            try:
                self._post(question.ticket[0], &letter)
            except EngineError:
                letter_burn(&letter)
                raise

    def forget(self, tag=None):
        """Withdraw remembered verdicts: those with `tag`, or, if None, all.

        So are answers under way, and to questions read before: those come again.
        """
        self._check_open()
        with self.lock:
            self.docket.tags.forget(tag)

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
        return tally(&self.fleet, self.registry, dict(self.blocks), self.generation)

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
            mailbox_fini(&self.fleet.questions)
            self.blocks = {}
            self.listening = {}
            self.previous = None
