"""The loop of a worker: events, letters, timers, and the table in between.

Workers share nothing on the path of bytes. They meet at an accept, where a client may
be handed to a worker with less to do, and at the top of the loop, where each takes
over a new table: nothing of the old one is held across that line.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc

from fastpath.base.context cimport context_fini, context_init
from fastpath.base.linux.atomic cimport acquire_ptr, release_u64
from fastpath.base.linux.clock cimport (
    PR_SET_TIMERSLACK,
    SIG_BLOCK,
    clock_us,
    prctl,
    pthread_sigmask,
    sigfillset,
    sigset_t,
)
from fastpath.base.linux.file cimport (
    EPOLLIN,
    O_CLOEXEC,
    O_RDONLY,
    close,
    epoll_event,
    open as open_file,
)
from fastpath.base.mailbox cimport (
    LETTER_ADOPT,
    LETTER_ANSWER,
    LETTER_RESET,
    LETTER_STOP,
    SLOT_ALL,
    letter_t,
    mailbox_clear,
    mailbox_depth,
    mailbox_fini,
    mailbox_init,
    mailbox_pop,
    mailbox_rise,
    mailbox_sleep,
)
from fastpath.base.poller cimport (
    TAG_CLIENT,
    TAG_DOWN,
    TAG_LISTENER,
    TAG_MAILBOX,
    TAG_SERVER,
    poller_add,
    poller_wait,
    tag_generation,
    tag_index,
    tag_kind,
    tag_make,
)
from fastpath.base.slab cimport SLAB_NONE
from fastpath.base.timer cimport TIMER_RELAY, timer_t, wheel_pop, wheel_wait_ms
from fastpath.http.client cimport (
    web_fini,
    web_init,
    web_reset,
    web_sweep,
    web_take_table,
)
from fastpath.http.decide cimport letter_burn
from fastpath.http.events cimport (
    web_answer,
    web_client_event,
    web_reset_backend,
    web_run,
    web_server_event,
    web_timer,
)
from fastpath.table.listener cimport listener_t
from fastpath.table.table cimport change_t, table_t, table_vip
from fastpath.tcp.batch cimport burst_read, burst_send
from fastpath.tcp.naming cimport admit_event, admit_timer
from fastpath.tcp.relay cimport (
    RELAY_FLOWING,
    RELAY_FREE,
    RELAY_NONE,
    SIDE_DOWN,
    SIDE_UP,
    relay_at,
    relay_event,
    relay_t,
    relay_timer,
    relays_fini,
    relays_init,
    relays_reset,
    relays_run,
    side_t,
)
from fastpath.worker.accept cimport (
    accept_open,
    accept_resume,
    accept_some,
    accept_start,
    accept_stop,
)
from fastpath.worker.coalesce cimport worker_others, worker_rest
from fastpath.worker.fleet cimport PAUSE_MS, RESETS_MOST, RESET_STEP

cdef enum:
    LETTERS = 1024      # in a mailbox: a burst of clients handed over


cdef worker_t* worker_new(
    fleet_t* fleet, int index, size_t pipe_bytes, bint splice
) noexcept nogil:
    cdef worker_t* w = <worker_t*>calloc(1, sizeof(worker_t))

    if w == NULL:
        return NULL
    w.fleet = fleet
    w.mailbox.wake_fd = -1
    w.reserve = open_file("/dev/null", O_RDONLY | O_CLOEXEC)
    relays_init(&w.relays, &w.context)
    if (
        context_init(&w.context, index, &fleet.notices, pipe_bytes, splice) < 0
        or w.reserve == -1
        or mailbox_init(&w.mailbox, LETTERS) < 0
        or poller_add(
            &w.context.poller, w.mailbox.wake_fd, EPOLLIN, tag_make(TAG_MAILBOX, 0, 0)
        ) < 0
        or web_init(
            &w.web, &w.context, &fleet.questions, &fleet.epochs, &fleet.budget
        ) < 0
    ):
        worker_free(w)
        return NULL
    return w


# Answers that came too late.
cdef void worker_unread(worker_t* w) noexcept nogil:
    cdef letter_t letter

    while w.mailbox.cells != NULL and mailbox_pop(&w.mailbox, &letter):
        letter_burn(&letter)


cdef void worker_free(worker_t* w) noexcept nogil:
    cdef uint32_t i

    if w == NULL:
        return
    worker_unread(w)
    web_fini(&w.web)
    relays_fini(&w.relays)
    for i in range(w.listener_room):
        if w.listeners[i].fd != -1:
            close(w.listeners[i].fd)
    free(w.listeners)
    mailbox_fini(&w.mailbox)
    context_fini(&w.context)
    if w.reserve != -1:
        close(w.reserve)
    free(w)


# ---- Taking over a table.

cdef bint worker_room(worker_t* w, uint32_t vips) noexcept nogil:
    cdef listener_t* listeners
    cdef uint32_t i

    if vips <= w.listener_room:
        return True
    listeners = <listener_t*>realloc(w.listeners, vips * sizeof(listener_t))
    if listeners == NULL:
        return False
    for i in range(w.listener_room, vips):
        listeners[i].fd = -1
        listeners[i].paused_until_ms = 0
    w.listeners = listeners
    w.listener_room = vips
    return True


# The quiescent point: nothing of the old table is in use here.
cdef void worker_take_table(worker_t* w) noexcept nogil:
    cdef table_t* table = <table_t*>acquire_ptr(&w.fleet.table)
    cdef change_t* change
    cdef uint32_t i

    # The engine publishes one table and waits: none is ever skipped.
    if table == w.context.table or not worker_room(w, table.size) or (
        not web_take_table(&w.web, table.size)
    ):
        return
    # Clients on their way here came by the old table: in the next but one, their slot
    # may be another vip's.
    if w.context.table != NULL:
        worker_letters(w)
    for i in range(table.change_count):
        change = &table.changes[i]
        if change.fds == NULL:
            accept_stop(w, change.vip)
    w.context.table = table
    for i in range(table.change_count):
        change = &table.changes[i]
        if change.fds != NULL:
            accept_start(w, change.vip, change.fds[w.context.worker])
    web_sweep(&w.web)
    release_u64(&w.generation, table.generation)


# ---- The loop.

cdef void worker_letters(worker_t* w) noexcept nogil:
    cdef letter_t letter

    while w.reset_count < RESETS_MOST and mailbox_pop(&w.mailbox, &letter):
        if letter.kind == LETTER_ADOPT:
            accept_open(w, letter.fd, letter.slot, &letter.addr)
        elif letter.kind == LETTER_ANSWER:
            web_answer(&w.web, &letter)
        elif letter.kind == LETTER_RESET:
            w.resets[w.reset_count].slot = letter.slot
            w.resets[w.reset_count].next = 0
            w.reset_count += 1
        elif letter.kind == LETTER_STOP:
            w.stopping = True


cdef void worker_resets(worker_t* w) noexcept nogil:
    cdef uint32_t kept = 0
    cdef uint32_t i

    for i in range(w.reset_count):
        if w.resets[i].slot == SLOT_ALL and w.resets[i].next == 0:
            web_reset(&w.web)
        elif w.resets[i].next == 0:
            web_reset_backend(&w.web, w.resets[i].slot)
        w.resets[i].next = relays_reset(
            &w.relays, w.resets[i].slot, w.resets[i].next, RESET_STEP
        )
        if w.resets[i].next > 0:
            w.resets[kept] = w.resets[i]
            kept += 1
    w.reset_count = kept


cdef void worker_event(worker_t* w, uint64_t tag, uint32_t events) noexcept nogil:
    cdef relay_t* r
    cdef side_t side

    if tag_kind(tag) == TAG_LISTENER:
        if w.listeners[tag_index(tag)].fd != -1:
            accept_some(w, &w.listeners[tag_index(tag)])
        return
    if tag_kind(tag) == TAG_MAILBOX:
        mailbox_clear(&w.mailbox)  # its letters are read after the events
        return
    if tag_kind(tag) == TAG_CLIENT:
        web_client_event(&w.web, tag_index(tag), tag_generation(tag), events)
        return
    if tag_kind(tag) == TAG_SERVER:
        web_server_event(&w.web, tag_index(tag), tag_generation(tag), events)
        return
    r = relay_at(&w.relays, tag_index(tag))
    if tag_generation(tag) != r.generation:
        return  # of a relay that this very batch has ended
    side = SIDE_DOWN if tag_kind(tag) == TAG_DOWN else SIDE_UP
    if r.state == RELAY_FLOWING:
        relay_event(&w.relays, r, side, events)
    elif r.state != RELAY_FREE:
        admit_event(&w.relays, r, side, events)


cdef void worker_events(worker_t* w, int count) noexcept nogil:
    cdef epoll_event* e
    cdef int i

    for i in range(count):
        e = &w.context.poller.events[i]
        if not burst_read(&w.burst, &w.relays, e.data.u64, e.events):
            burst_send(&w.burst, &w.relays)
            worker_event(w, e.data.u64, e.events)
    burst_send(&w.burst, &w.relays)


cdef void worker_timers(worker_t* w) noexcept nogil:
    cdef timer_t* t = wheel_pop(&w.context.wheel, w.context.now_ms)
    cdef relay_t* r

    while t != NULL:
        r = <relay_t*>t
        if t.kind != TIMER_RELAY:
            web_timer(&w.web, t)
        elif r.state == RELAY_FLOWING:
            relay_timer(&w.relays, r, table_vip(&w.context, r.vip.slot))
        else:
            admit_timer(&w.relays, r)
        t = wheel_pop(&w.context.wheel, w.context.now_ms)


cdef int worker_wait(worker_t* w) noexcept nogil:
    cdef int timeout_ms
    cdef uint64_t now_ms = w.context.now_ms
    cdef int n

    if w.reset_count > 0 or w.relays.run_first != RELAY_NONE or (
        w.web.run_first != SLAB_NONE
    ):
        return poller_wait(&w.context.poller, 0)
    timeout_ms = wheel_wait_ms(&w.context.wheel, now_ms)
    if w.resume_ms > 0 and (timeout_ms < 0 or timeout_ms > PAUSE_MS):
        timeout_ms = PAUSE_MS
    mailbox_sleep(&w.mailbox)
    if mailbox_depth(&w.mailbox) > 0 or acquire_ptr(&w.fleet.table) != w.context.table:
        timeout_ms = 0
    n = poller_wait(&w.context.poller, timeout_ms)
    mailbox_rise(&w.mailbox)
    return n


cdef void worker_turn(worker_t* w) noexcept nogil:
    cdef int n = worker_wait(w)
    cdef uint64_t spliced = w.context.stats.spliced
    cdef uint64_t streamed = w.context.stats.streamed
    cdef uint64_t other = worker_others(w)

    w.context.now_ms = clock_us() // 1000
    w.context.stats.turns += 1
    worker_take_table(w)
    worker_events(w, n)
    worker_letters(w)
    if w.reset_count > 0:
        worker_resets(w)
    worker_timers(w)
    if w.resume_ms > 0 and w.resume_ms <= w.context.now_ms:
        accept_resume(w)
    relays_run(&w.relays)
    web_run(&w.web)
    worker_rest(w, spliced, streamed, other)


cdef void worker_loop(worker_t* w) noexcept nogil:
    cdef sigset_t all_signals

    # Signals are for Python's main thread; SIGPIPE of splice(2) is for nobody.
    sigfillset(&all_signals)
    pthread_sigmask(SIG_BLOCK, &all_signals, NULL)
    prctl(PR_SET_TIMERSLACK, 1)  # else REST_NS is 50 us longer
    w.context.now_ms = clock_us() // 1000
    while not w.stopping:
        worker_turn(w)


cdef class Worker:
    """A worker as the target of a thread."""

    def run(self):
        """Give up the GIL and serve; return when the engine stops the worker."""
        with nogil:
            worker_loop(self.worker)
