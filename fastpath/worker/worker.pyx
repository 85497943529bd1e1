"""The loop of a worker: events, letters, timers, and the table in between.

Workers share nothing on the path of bytes. They meet at an accept, where a client may
be handed to a worker with less to do, and at the top of the loop, where each takes
over a new table: nothing of the old one is held across that line.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from fastpath.base.context cimport context_fini, context_init
from fastpath.base.linux.atomic cimport acquire_ptr
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
    LETTER_ANSWER,
    LETTER_RESET,
    LETTER_RESET_SILENT,
    LETTER_STOP,
    SLOT_ALL,
    letter_t,
    mailbox_clear,
    mailbox_depth,
    mailbox_fini,
    mailbox_init,
    mailbox_rise,
    mailbox_sleep,
)
from fastpath.base.poller cimport (
    TAG_CONN,
    TAG_RELAY_DOWN,
    TAG_LISTENER,
    TAG_MAILBOX,
    TAG_UPCONN,
    poller_add,
    poller_wait,
    tag_generation,
    tag_index,
    tag_kind,
    tag_make,
)
from fastpath.base.slab cimport (
    KIND_CONN,
    KIND_RELAY,
    KIND_UPCONN,
    run_pop,
    slot_of_timer,
    slot_t,
)
from fastpath.base.timer cimport timer_t, wheel_pop, wheel_wait_ms
from fastpath.http.conn cimport conns_fini, conns_init, conns_reset
from fastpath.http.events cimport (
    conn_answer,
    conn_event,
    conn_run,
    conn_timer,
    conns_reset_backend,
    upconn_event,
    upconn_timer,
)
from fastpath.http.state cimport conn_t, upconn_t
from fastpath.table.table cimport table_vip
from fastpath.tcp.batch cimport batch_read, batch_send
from fastpath.tcp.naming cimport naming_event, naming_timer
from fastpath.tcp.relay cimport (
    RELAY_FLOWING,
    RELAY_FREE,
    SIDE_DOWN,
    SIDE_UP,
    relay_at,
    relay_event,
    relay_run,
    relay_t,
    relay_timer,
    relays_fini,
    relays_init,
    relays_reset,
    side_t,
)
from fastpath.tls.buffers cimport BUFFERS_AGE_MS, buffers_age
from fastpath.worker.accept cimport accept_crowd, accept_resume, accept_some
from fastpath.worker.coalesce cimport coalesce, coalesce_others
from fastpath.worker.fleet cimport (
    CROWD_EVENTS,
    PAUSE_MS,
    RESETS_MOST,
    RESET_STEP,
    post_t,
)
from fastpath.worker.post cimport worker_collect, worker_mail, worker_unread
from fastpath.worker.takeover cimport worker_take_table, worker_untaken

cdef enum:
    LETTERS = 1024      # in a mailbox: many clients at once handed over


cdef worker_t* worker_new(
    fleet_t* fleet, int index, size_t pipe_bytes, bint splice
) noexcept nogil:
    cdef worker_t* w = <worker_t*>calloc(1, sizeof(worker_t))

    if w == NULL:
        return NULL
    w.fleet = fleet
    w.changed = &fleet.changes
    w.context.affinity = &fleet.affinity
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
        or conns_init(
            &w.http, &w.context, &fleet.questions, &fleet.epochs, &fleet.budget,
            &fleet.parked, fleet.tls_bytes,
        ) < 0
    ):
        worker_free(w)
        return NULL
    return w


cdef void worker_free(worker_t* w) noexcept nogil:
    cdef uint32_t i

    if w == NULL:
        return
    worker_unread(w)
    worker_untaken(w)
    conns_fini(&w.http)
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


# ---- The loop.

cdef void worker_letters(worker_t* w) noexcept nogil:
    cdef post_t* post
    cdef letter_t* letter

    worker_mail(w)
    # A post may need the table that was published before it: take that first.
    if acquire_ptr(&w.fleet.table) != w.context.table and not w.starved:
        return
    if acquire_ptr(&w.posts) != NULL:
        worker_collect(w)
    while w.unread != NULL and w.reset_count < RESETS_MOST:
        post = w.unread
        w.unread = post.next
        letter = &post.letter
        if letter.kind == LETTER_ANSWER:
            conn_answer(&w.http, letter)
        elif letter.kind == LETTER_RESET or letter.kind == LETTER_RESET_SILENT:
            w.resets[w.reset_count].slot = letter.slot
            w.resets[w.reset_count].silent = letter.kind == LETTER_RESET_SILENT
            w.resets[w.reset_count].next = 0
            w.reset_count += 1
        elif letter.kind == LETTER_STOP:
            w.stopping = True
        free(post)


cdef void worker_resets(worker_t* w) noexcept nogil:
    cdef uint32_t kept = 0
    cdef uint32_t i

    for i in range(w.reset_count):
        if w.resets[i].slot == SLOT_ALL and w.resets[i].next == 0:
            conns_reset(&w.http)
        elif w.resets[i].next == 0 and not w.resets[i].silent:
            conns_reset_backend(&w.http, w.resets[i].slot)
        w.resets[i].next = relays_reset(
            &w.relays, w.resets[i].slot, w.resets[i].silent, w.resets[i].next,
            RESET_STEP,
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
    if tag_kind(tag) == TAG_CONN:
        conn_event(&w.http, tag_index(tag), tag_generation(tag), events)
        return
    if tag_kind(tag) == TAG_UPCONN:
        upconn_event(&w.http, tag_index(tag), tag_generation(tag), events)
        return
    r = relay_at(&w.relays, tag_index(tag))
    if tag_generation(tag) != r.slot.generation:
        return  # of a relay that this very batch has ended
    side = SIDE_DOWN if tag_kind(tag) == TAG_RELAY_DOWN else SIDE_UP
    if r.state == RELAY_FLOWING:
        relay_event(&w.relays, r, side, events)
    elif r.state != RELAY_FREE:
        naming_event(&w.relays, r, side, events)


cdef void worker_events(worker_t* w, int count) noexcept nogil:
    cdef epoll_event* e
    cdef int i

    for i in range(count):
        # Where fewer events come, that of the listener is not far.
        if w.crowd_count > 0 and i % CROWD_EVENTS == CROWD_EVENTS - 1:
            batch_send(&w.batch, &w.relays)
            accept_crowd(w)
        e = &w.context.poller.events[i]
        if not batch_read(&w.batch, &w.relays, e.data.u64, e.events):
            batch_send(&w.batch, &w.relays)
            worker_event(w, e.data.u64, e.events)
    batch_send(&w.batch, &w.relays)


cdef void worker_timers(worker_t* w) noexcept nogil:
    cdef timer_t* t = wheel_pop(&w.context.wheel, w.context.now_ms)
    cdef slot_t* slot
    cdef relay_t* r

    while t != NULL:
        slot = slot_of_timer(t)
        r = <relay_t*>slot
        if slot.kind == KIND_CONN:
            conn_timer(&w.http, <conn_t*>slot)
        elif slot.kind == KIND_UPCONN:
            upconn_timer(&w.http, <upconn_t*>slot)
        elif r.state == RELAY_FLOWING:
            relay_timer(&w.relays, r, table_vip(&w.context, r.vip.slot))
        else:
            naming_timer(&w.relays, r)
        t = wheel_pop(&w.context.wheel, w.context.now_ms)


# Go on with what had its turn. What is queued meanwhile waits for the next turn.
cdef void worker_run(worker_t* w) noexcept nogil:
    cdef slot_t* last = w.context.run.last
    cdef slot_t* slot = NULL

    while w.context.run.first != NULL and slot != last:
        slot = run_pop(&w.context.run)
        if slot.kind == KIND_RELAY:
            relay_run(&w.relays, <relay_t*>slot)
        else:
            conn_run(&w.http, <conn_t*>slot)


cdef int worker_wait(worker_t* w) noexcept nogil:
    cdef int timeout_ms
    cdef uint64_t now_ms = w.context.now_ms
    cdef int n

    if w.reset_count > 0 or w.unread != NULL or w.context.run.first != NULL:
        return poller_wait(&w.context.poller, 0)
    timeout_ms = wheel_wait_ms(&w.context.wheel, now_ms)
    if w.resume_ms > 0 and (timeout_ms < 0 or timeout_ms > PAUSE_MS):
        timeout_ms = PAUSE_MS
    mailbox_sleep(&w.mailbox)
    if (
        mailbox_depth(&w.mailbox) > 0
        or acquire_ptr(&w.posts) != NULL
        or acquire_ptr(&w.fleet.table) != w.context.table
    ):
        timeout_ms = 0
    n = poller_wait(&w.context.poller, timeout_ms)
    mailbox_rise(&w.mailbox)
    return n


cdef void worker_turn(worker_t* w) noexcept nogil:
    cdef int n = worker_wait(w)
    cdef uint64_t spliced = w.context.stats.spliced
    cdef uint64_t streamed = w.context.stats.streamed
    cdef uint64_t other = coalesce_others(w)

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
    if w.context.now_ms - w.http.buffers.aged_ms >= BUFFERS_AGE_MS:
        buffers_age(&w.http.buffers, w.context.now_ms)
    worker_run(w)
    coalesce(w, spliced, streamed, other)


cdef void worker_loop(worker_t* w) noexcept nogil:
    cdef sigset_t all_signals

    # Signals are for Python's main thread; SIGPIPE of splice(2) must do nothing.
    sigfillset(&all_signals)
    pthread_sigmask(SIG_BLOCK, &all_signals, NULL)
    prctl(PR_SET_TIMERSLACK, 1)  # else COALESCE_NS is 50 us longer
    w.context.now_ms = clock_us() // 1000
    while not w.stopping:
        worker_turn(w)


cdef class Worker:
    """A worker as the target of a thread."""

    def run(self):
        """Give up the GIL and serve; return when the engine stops the worker."""
        with nogil:
            worker_loop(self.worker)
