"""Python's door to the data plane: tables in, counters and notices out.

Everything here runs on Python's threads, a call at a time. What workers read is
published with one store and freed when all of them have moved on.
"""

import os
import sys
import threading
import warnings

cimport cython
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint32_t
from libc.string cimport memset

from fastpath.base.affinity cimport affinity_fini, affinity_init
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.mailbox cimport (
    LETTER, LETTER_RESET, LETTER_RESET_SILENT, LETTER_STOP, SLOT_ALL, letter_t,
    mailbox_fini, mailbox_init, mailbox_sleep,
)
from fastpath.http.question cimport letter_burn
from fastpath.publisher cimport Publisher
from fastpath.stats_report cimport report, report_notices
from fastpath.verdict_api cimport VerdictApi, answer_letter
from fastpath.worker.fleet cimport WORKERS_MOST, fleet_t
from fastpath.worker.post cimport worker_post
from fastpath.worker.worker cimport Worker, worker_free, worker_new

from fastpath.api.checks import check_bound
from fastpath.api.errors import EngineError
from fastpath.api.spec import Delta
from fastpath.table.registry import HEALTHS
from fastpath.table.delta import Table

cdef enum:
    NOTICES = 1024
    QUESTIONS = 8192     # letters to Python that it has not read
    PINS = 131072        # of sources to backends: 1 MiB, if they are used

PARKED_MOST = 4096       # requests that wait for Python
PARKED_BYTES = 32 << 20  # of their heads
TLS_BUFFER_BYTES = 48 << 20  # 600 busy connections; beyond it, buffers come and go

PATIENCE_S = 1.0         # for workers to take over a table, where a caller waits


cdef class Engine:
    """Workers that forward what a table says. See engine.pyi for the types.

    `verdict_bytes` is how much all of them together may remember of verdicts. At most
    `parked_most` requests wait for a verdict at a time, with heads of `parked_bytes`;
    one more is answered 503. Each worker holds `tls_buffer_bytes` of OpenSSL's buffers
    at most, 83 KB for each connection that was used in the last seconds.

    Raises:
        ValueError: more than 64 workers, or fewer than one; a bound out of range.
        OSError: no descriptors for the workers.
    """

    cdef fleet_t fleet
    cdef Publisher tables
    cdef VerdictApi verdicts
    cdef list threads
    # C's, because Python's cannot be let go of where there is no memory for a call; and
    # Cython 3.3 crashes where a `with` ends with an exception that has no traceback.
    cdef cython.pythread_type_lock lock
    cdef bint closed

    def __cinit__(
        self, workers=None, *, pipe_bytes=1048576, bint splice=True,
        verdict_bytes=67108864, parked_most=PARKED_MOST, parked_bytes=PARKED_BYTES,
        tls_buffer_bytes=TLS_BUFFER_BYTES,
    ):
        # First: __dealloc__ closes it, and descriptor 0 is standard input.
        self.fleet.notices.wake_fd = -1
        self.fleet.questions.wake_fd = -1
        count = workers if workers is not None else len(os.sched_getaffinity(0))
        if not 1 <= count <= WORKERS_MOST:
            raise ValueError(f"workers: {count} is not in 1-{WORKERS_MOST}")
        self.tables = Publisher(count)
        self.verdicts = VerdictApi()
        check_bound("parked_most", parked_most, QUESTIONS)
        check_bound("parked_bytes", parked_bytes)
        check_bound("tls_buffer_bytes", tls_buffer_bytes)
        self.fleet.tls_bytes = tls_buffer_bytes
        self.fleet.parked.most = parked_most
        self.fleet.parked.most_bytes = parked_bytes
        self.verdicts.open(&self.fleet.epochs, &self.fleet.budget, verdict_bytes, count)
        self.threads = []
        self.tables.begin(&self.fleet)
        self._start(count, pipe_bytes, splice)

    def _start(self, int count, size_t pipe_bytes, bint splice):
        cdef Worker worker
        cdef int i

        if mailbox_init(&self.fleet.notices, NOTICES) < 0 or (
            mailbox_init(&self.fleet.questions, QUESTIONS) < 0
            or affinity_init(&self.fleet.affinity, PINS) < 0
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
        # After close(), or when the constructor failed before any thread started.
        if not self.threads:
            self._free()

    cdef void _free(self) noexcept:
        cdef int i

        for i in range(self.fleet.count):
            worker_free(self.fleet.workers[i])
        self.fleet.count = 0
        mailbox_fini(&self.fleet.notices)
        mailbox_fini(&self.fleet.questions)
        affinity_fini(&self.fleet.affinity)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()

    @property
    def generation(self):
        """Number of the table in use; 0 before the first."""
        return self.tables.current.generation

    @property
    def workers(self):
        """How many threads serve."""
        return self.fleet.count

    # ---- Tables.

    def apply(self, table, *, health=None, sockets=None, wait_s=PATIENCE_S):
        """Serve `table` from now on; return its generation.

        As `update` with what turns the table in force into this one.
        """
        if not isinstance(table, Table):
            raise TypeError("apply takes a Table")
        with self.lock:
            self._check_open()
            delta = self.tables.state.delta_to(table)
            generation = self._change(delta, health, sockets)
        self._await(wait_s)
        return generation

    def update(self, delta, *, health=None, sockets=None, wait_s=0.0):
        """Change the table; return its generation. If this raises, nothing changed.

        New vips are bound before anything else. Vips that are gone stop listening;
        their relays go on, as do those of backends that are gone. What `health` says
        of backends holds before the first client of the table comes: see set_health.
        Takes time in proportion to the delta and waits for no worker, unless `wait_s`
        is given: then until all workers use the table, or for so long.

        `sockets` has descriptors that listen already, by the key of a vip or listener.
        Where such a vip is new, workers take duplicates of them in turn instead of
        binding. The descriptors stay the caller's; clients that wait in a socket that
        another process holds, too, are not lost when we stop.

        Raises:
            TableError: see table.draft.Draft.
            KeyError: the table has no such backend, or there is no such health.
            OSError: a vip cannot be bound, or a descriptor is not what its vip needs.
            EngineError: closed.
        """
        if not isinstance(delta, Delta):
            raise TypeError("update takes a Delta")
        with self.lock:
            self._check_open()
            generation = self._change(delta, health, sockets)
        if wait_s > 0:
            self._await(wait_s)
        return generation

    cdef _await(self, wait_s):
        try:
            self.settle(wait_s)
        except MemoryError:
            pass  # the table is in force: only the wait is over early

    cdef _change(self, delta, health, sockets):
        # The number is made first: nothing may fail once the table is published.
        generation = self.tables.current.table.generation + 1
        self.tables.change(delta, health or {}, sockets or {}, self.verdicts)
        return generation

    def settle(self, wait_s=PATIENCE_S):
        """Wait until all workers use the table in force; return whether they do.

        Then counters of what has left the table are forgotten, unless it has relays.
        """
        if not self.tables.settle(wait_s):
            return False
        with self.lock:
            if not self.closed:
                self.tables.reap()
        return True

    def address(self, vip):
        """(host, port) that a Vip or Listener, or one of a key, is bound to."""
        key = vip if isinstance(vip, tuple) else vip.key
        return self.tables.state.listening[key].address

    # ---- Backends.

    def set_health(self, backend, health):
        """Say how the backend (host, port) is; KeyError if no table names it.

        Only "ready" takes new relays. Live relays are not touched: see reset.
        """
        slot = self.tables.registry.named(backend)
        self.tables.registry.tell(slot, HEALTHS[health], clock_us() // 1000)

    def drain(self, backend=None, *, wait_s=PATIENCE_S):
        """No new relays for a backend; without one: stop listening, on all vips.

        Live relays go on. A later `apply` listens again, on all vips and listeners of
        its table; `update` does so on those that its delta names. Waits as apply does.
        """
        if backend is not None:
            self.set_health(backend, "draining")
            return
        with self.lock:
            self._check_open()
            self.tables.stop_listening()
        self.settle(wait_s)

    def reset(self, backend=None, *, bint silent=False):
        """Reset the live relays of a backend (host, port), or all. Returns at once.

        `silent`: only relays whose clients wait for the first byte."""
        self._check_open()
        slot = SLOT_ALL if backend is None else self.tables.registry.named(backend)
        self._send(LETTER_RESET_SILENT if silent else LETTER_RESET, slot)

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
        if worker_post(self.fleet.workers[worker], letter) < 0:
            raise MemoryError

    # ---- Requests.

    def questions(self):
        """Requests that wait for a verdict, oldest first."""
        self._check_open()
        return self.verdicts.questions(
            &self.fleet.questions, self.tables.registry.vips
        )

    def withdrawn(self):
        """Questions that nobody waits for any more; as of the last `questions`.

        Their clients have left, or were told that there was no verdict in time. One
        that was withdrawn before it was read is never seen.
        """
        return self.verdicts.withdrawn()

    def records(self):
        """Exchanges that ended, of vips that log; as of the last `questions`."""
        return self.verdicts.records()

    def questions_fileno(self):
        """Descriptor that is readable when there are questions; the engine's own."""
        self._check_open()
        return self.fleet.questions.wake_fd

    def answer(self, question, verdict, *, ttl_s=0.0, key=None, tag=""):
        """Let the request go on as the Forward or Reply says.

        None: the response with the status `question.refused` goes to the client. So it
        does after a Forward that would send the same request again.

        With `ttl_s` > 0, requests that agree with it in the parts `key` share the
        verdict for so many seconds; `forget(tag)` ends that. Answers for closed clients
        are ignored; those from before a `forget` are asked for again.

        Raises:
            KeyError: the table has no such upstream.
            ValueError: None, though no response waits.
            ValueError: `key` has a part that Http.key does not name, or lacks one that
                was read of the question, or is None although `ttl_s` > 0; or no tag.
        """
        cdef letter_t letter

        self._check_open()
        with self.lock:
            self.verdicts.settle(question)
            vip = self.tables.state.vips.get(question.vip)
            if vip is None or vip.spec.http is None:
                return
            block = self.verdicts.take(question, verdict, self.tables.state.upstreams)
            answer_letter(
                &letter, question, block, ttl_s, vip.spec.http.key, key, tag,
                self.verdicts.tags,
            )
            try:
                self._post(question.ticket[0], &letter)
            except MemoryError:
                letter_burn(&letter)
                raise

    def forget(self, tag=None):
        """Withdraw remembered verdicts: those with `tag`, or, if None, all.

        Answers under way, and to questions that were read before, are void as well:
        these questions come again.
        """
        self._check_open()
        with self.lock:
            if tag is None:
                self.verdicts.tags.forget_all()
            else:
                self.verdicts.tags.forget(tag)

    # ---- Watching.

    def notices(self):
        """What happened to backends since the last call, oldest first."""
        self._check_open()
        return report_notices(&self.fleet.notices, self.tables.registry)

    def fileno(self):
        """Descriptor that is readable when there are notices; the engine's own."""
        self._check_open()
        return self.fleet.notices.wake_fd

    def stats(self, *, vips=None, backends=None):
        """All counters as they stand, summed over the workers.

        `vips` and `backends` are keys to be told of; None = all. Costs time in
        proportion to what is asked for. KeyError if the table has no such key.
        """
        with self.lock:
            self._check_open()
            state = self.tables.state
            told = state.vips if vips is None else {k: state.vips[k] for k in vips}
            if backends is None:
                numbers = self.tables.registry.backends
                backends = [key for key in numbers.slots if numbers.named(key)]
            return report(
                &self.fleet, self.tables.registry, told, state.upstreams, backends,
                self.generation,
            )

    cdef _check_open(self):
        if self.closed:
            raise EngineError("the engine is closed")

    def close(self):
        """Reset live relays, stop listening, end the threads. Again does nothing."""
        with self.lock:
            if self.closed:
                return
            self._send(LETTER_STOP, 0)
            self.closed = True
            for thread in self.threads:
                thread.join()
            self.threads = []
            self._free()
            self.tables.close()
