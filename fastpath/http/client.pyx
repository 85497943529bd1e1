"""A client's connection: its memory, its deadlines, replies of our own, its end."""

from libc.errno cimport EAGAIN, ENOMEM
from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_refuse
from fastpath.base.linux.atomic cimport store_u64
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.linux.file cimport EPOLLET, EPOLLIN, EPOLLRDHUP
from fastpath.base.mailbox cimport (
    LETTER_RECORD,
    letter_t,
    mailbox_depth,
    mailbox_push,
    mailbox_t,
)
from fastpath.base.poller cimport TAG_CLIENT, poller_add, tag_make
from fastpath.base.slab cimport (
    SLAB_NONE,
    slab_at,
    slab_count,
    slab_fini,
    slab_give,
    slab_init,
    slab_take,
)
from fastpath.base.spill cimport SCRATCH_BYTES, spill_put
from fastpath.base.stats cimport (
    DROP,
    DROP_CLOSED,
    DROP_ENGINE_CLOSED,
    DROP_HEADER_TIMEOUT,
    DROP_IDLE_TIMEOUT,
    DROP_NO_BACKEND,
    DROP_NO_DESCRIPTORS,
    DROP_NO_MEMORY,
    DROP_RESET_BY_ADMIN,
    DROP_RESET_BY_CLIENT,
    DROP_TLS_HANDSHAKE,
    VERB,
    vip_stats,
    vip_stats_t,
    web_count,
    web_stats,
)
from fastpath.base.timer cimport TIMER_EXCHANGE, timer_arm, timer_disarm
from fastpath.http.carry cimport pending_drop
from fastpath.http.keepset cimport (
    upstream_fini,
    upstream_leave,
    upstream_room,
    upstream_sweep,
)
from fastpath.http.respond cimport respond_text, respond_verdict
from fastpath.http.verdict cimport memory_fini, memory_init, verdict_release
from fastpath.http.web cimport (
    EX_FLOWING,
    EX_HANDSHAKE,
    EX_IDLE,
    EX_LINGER,
    LINGER_BYTES,
    LINGER_MS,
    OUT_BYTES,
    RECORDS_MOST,
    exchange_t,
    server_t,
    web_t,
)
from fastpath.table.admission cimport vip_admit, vip_leave
from fastpath.table.balancer cimport source_hash
from fastpath.table.table cimport http_t, vip_t
from fastpath.tls.transport cimport (
    transport_close,
    transport_open,
    transport_read,
    transport_shut,
    transport_start_server,
)


# ---- Memory.

cdef int web_init(
    web_t* w, context_t* c, mailbox_t* questions, const epochs_t* epochs,
    budget_t* budget,
) noexcept nogil:
    memset(w, 0, sizeof(web_t))
    w.c = c
    w.questions = questions
    w.epochs = epochs
    w.run_first = SLAB_NONE
    w.run_last = SLAB_NONE
    slab_init(&w.exchanges, sizeof(exchange_t))
    slab_init(&w.servers, sizeof(server_t))
    memory_init(&w.memory, budget, epochs)
    w.out = <char*>malloc(OUT_BYTES)
    return 0 if w.out != NULL else -ENOMEM


cdef void web_drop_all(web_t* w, DROP reason) noexcept nogil:
    cdef exchange_t* x
    cdef uint32_t i

    for i in range(slab_count(&w.exchanges)):
        x = <exchange_t*>slab_at(&w.exchanges, i)
        if x.slot.live and x.down.fd != -1:
            exchange_drop(w, x, reason)


cdef void web_fini(web_t* w) noexcept nogil:
    if w.c == NULL:
        return
    web_drop_all(w, DROP_ENGINE_CLOSED)
    upstream_fini(w)
    slab_fini(&w.exchanges)
    slab_fini(&w.servers)
    memory_fini(&w.memory)
    free(w.keepsets)
    free(w.out)
    w.c = NULL


cdef void web_reset(web_t* w) noexcept nogil:
    web_drop_all(w, DROP_RESET_BY_ADMIN)


# A deadline for this state. The timer is moved only to fire earlier than it would.
cdef void exchange_until(web_t* w, exchange_t* x, uint32_t ms) noexcept nogil:
    x.deadline_ms = w.c.now_ms + ms if ms > 0 else 0
    if ms > 0 and (x.timer.prev == NULL or x.timer.deadline_ms > x.deadline_ms):
        timer_arm(&w.c.wheel, &x.timer, x.deadline_ms)


cdef void input_drop(web_t* w, exchange_t* x) noexcept nogil:
    if x.input != NULL:
        spill_put(&w.c.mover, x.input)
        x.input = NULL


# The first `size` bytes of the input are dealt with.
cdef void input_take(web_t* w, exchange_t* x, uint32_t size) noexcept nogil:
    x.input.first += size
    x.input.used -= size
    if x.input.used == 0:
        input_drop(w, x)


# ---- Requests.

cdef void exchange_idle(web_t* w, exchange_t* x) noexcept nogil:
    cdef http_t* http = http_of(w, x)

    x.state = EX_IDLE
    x.began_us = 0
    exchange_until(w, x, http.idle_ms if http != NULL else 1)


# Nothing can go on now. A body that somebody does not send or take has so long; an
# upstream that does not answer may think as long as it likes.
cdef void exchange_stall(web_t* w, exchange_t* x) noexcept nogil:
    cdef http_t* http = http_of(w, x)
    cdef bint waits = x.to_down.first != NULL or x.to_up.first != NULL

    if not waits and (x.request.done or x.deaf):
        x.deadline_ms = 0
    elif x.deadline_ms == 0 and http != NULL:
        exchange_until(w, x, http.stall_ms)


# ---- Open and drop.

cdef exchange_t* exchange_open(
    web_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil:
    cdef vip_t* v = table_vip(w.c, vip)
    cdef exchange_t* x = NULL
    cdef int limit

    if v == NULL or v.http == NULL:
        context_refuse(w.c, fd, vip, DROP_NO_BACKEND)
        return NULL
    x = <exchange_t*>slab_take(&w.exchanges)
    if x == NULL:
        context_refuse(w.c, fd, vip, DROP_NO_MEMORY)
        return NULL
    x.source = source_hash(client)
    limit = vip_admit(v, x.source, w.c.now_ms, &x.by_source)
    if limit >= 0:
        vip_leave(v.state, x.source, x.by_source)
        context_refuse(w.c, fd, vip, <DROP>limit)
        slab_give(&w.exchanges, x)
        return NULL
    transport_open(&x.down, fd)
    x.timer.kind = TIMER_EXCHANGE
    x.vip = v.state
    x.client = client[0]
    x.down.readable = 1
    x.down.writable = 1
    x.keep = 1
    vip_stats(&w.c.stats, vip).accepted += 1
    vip_stats(&w.c.stats, vip).active += 1
    store_u64(&w.c.stats.active, w.c.stats.active + 1)
    if poller_add(
        &w.c.poller, fd, EPOLLIN | EPOLLRDHUP | EPOLLET,
        tag_make(TAG_CLIENT, x.slot.index, x.slot.generation),
    ) < 0:
        exchange_drop(w, x, DROP_NO_DESCRIPTORS)
        return NULL
    if v.http.tls == NULL:
        exchange_idle(w, x)
        return x
    if transport_start_server(&x.down, v.http.tls[w.c.worker], &w.buffers) < 0:
        exchange_drop(w, x, DROP_NO_MEMORY)
        return NULL
    x.state = EX_HANDSHAKE
    exchange_until(w, x, v.http.header_ms)
    return x


# What belongs to one exchange, not to the connection.
cdef void exchange_clear(web_t* w, exchange_t* x) noexcept nogil:
    pending_drop(&w.c.mover, &x.to_up)
    verdict_release(x.verdict)
    x.verdict = NULL
    free(x.record)
    x.record = NULL
    x.held = 0
    x.scanned = 0
    x.status = 0
    x.upgrade = 0
    x.informed = 0
    x.answering = 0
    x.deaf = 0
    x.asked_on = 0
    x.replayed = 0
    x.tries = 0


cdef void exchange_drop(web_t* w, exchange_t* x, DROP reason) noexcept nogil:
    cdef bint reset = reason != DROP_CLOSED and reason != DROP_HEADER_TIMEOUT and (
        reason != DROP_TLS_HANDSHAKE  # a reset would take the alert back
    ) and (
        # Who stalls amid a response must not take it for whole.
        reason != DROP_IDLE_TIMEOUT or x.state == EX_FLOWING
    )
    cdef vip_stats_t* stats = vip_stats(&w.c.stats, x.vip.slot)

    if x.state == EX_FLOWING and x.began_us > 0:
        exchange_count(w, x)
    # Counted first: who sees the close finds it in the counters.
    stats.closed[<int>reason] += 1
    stats.active -= 1
    store_u64(&w.c.stats.active, w.c.stats.active - 1)
    vip_leave(x.vip, x.source, x.by_source)
    upstream_leave(w, x, reset)
    timer_disarm(&x.timer)
    transport_close(&x.down, reset)
    input_drop(w, x)
    pending_drop(&w.c.mover, &x.to_down)
    exchange_clear(w, x)
    x.state = EX_IDLE  # an answer that is still under way finds nobody parked
    if not x.queued:  # else the run queue gives it back when it comes by
        slab_give(&w.exchanges, x)


# Hand the record of this exchange to Python, if one is wanted and there is room.
cdef void exchange_record(web_t* w, exchange_t* x) noexcept nogil:
    cdef letter_t letter

    if x.record == NULL:
        return
    x.record.status = x.status
    x.record.took_us = clock_us() - x.began_us
    x.record.bytes[0] = x.request.bytes
    x.record.bytes[1] = x.response.bytes
    memset(&letter, 0, sizeof(letter))
    letter.kind = LETTER_RECORD
    letter.fd = -1
    letter.load = x.record
    if mailbox_depth(w.questions) > RECORDS_MOST or (
        mailbox_push(w.questions, &letter) < 0
    ):
        web_stats(&w.c.stats, x.vip.slot).unrecorded += 1
        return  # freed when the exchange is cleared
    x.record = NULL


cdef void exchange_count(web_t* w, exchange_t* x) noexcept nogil:
    exchange_record(w, x)
    web_count(
        &w.c.stats, x.vip.slot, <VERB>x.verb, x.status, clock_us() - x.began_us,
        x.request.bytes, x.response.bytes,
    )
    x.began_us = 0  # once


# ---- Replies of our own.

# What the client still sends of this request is not wanted.
cdef void exchange_dismiss(web_t* w, exchange_t* x) noexcept nogil:
    if not x.request.done:
        x.keep = 0
        x.deaf = 1
        input_drop(w, x)
        x.held = 0


cdef STEP exchange_say(
    web_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil:
    exchange_dismiss(w, x)
    x.state = EX_FLOWING
    if not respond_text(w, x, status, text):
        exchange_drop(w, x, DROP_RESET_BY_CLIENT)
        return STEP_GONE
    return STEP_ON


cdef STEP exchange_reply(web_t* w, exchange_t* x) noexcept nogil:
    exchange_dismiss(w, x)
    x.state = EX_FLOWING
    if not respond_verdict(w, x, x.verdict):
        exchange_drop(w, x, DROP_RESET_BY_CLIENT)
        return STEP_GONE
    return STEP_ON


# The upstream failed before it answered.
cdef STEP exchange_fail(
    web_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil:
    cdef http_t* http = http_of(w, x)

    if http != NULL and http.gateway_status != 0:
        status = http.gateway_status
    return exchange_say(w, x, status, text)


# The last response was sent. A close(2) with bytes unread would take it back by RST.
cdef STEP exchange_end(web_t* w, exchange_t* x) noexcept nogil:
    if x.input == NULL and x.request.done and not x.down.readable:
        exchange_drop(w, x, DROP_CLOSED)
        return STEP_GONE
    input_drop(w, x)
    transport_shut(&x.down)
    x.state = EX_LINGER
    exchange_until(w, x, LINGER_MS)
    return STEP_ON


cdef STEP exchange_linger(web_t* w, exchange_t* x) noexcept nogil:
    cdef ssize_t n = 1

    while x.down.readable and x.lingered < LINGER_BYTES:
        n = transport_read(&x.down, w.c.mover.scratch, SCRATCH_BYTES)
        if n <= 0:
            break
        x.lingered += <uint32_t>n
    if n == -EAGAIN or (n > 0 and x.lingered < LINGER_BYTES):
        return STEP_WAIT
    exchange_drop(w, x, DROP_CLOSED)
    return STEP_GONE


# ---- Tables.

cdef bint web_take_table(web_t* w, uint32_t slots) noexcept nogil:
    return upstream_room(w, slots)


cdef void web_sweep(web_t* w) noexcept nogil:
    upstream_sweep(w)


cdef void web_retire(web_t* w, uint32_t slot) noexcept nogil:
    cdef exchange_t* x
    cdef uint32_t i

    for i in range(slab_count(&w.exchanges)):
        x = <exchange_t*>slab_at(&w.exchanges, i)
        if not x.slot.live or x.down.fd == -1 or x.vip.slot != slot:
            continue
        x.retiring = 1
        if not x.answering:
            x.keep = 0
        if x.state == EX_IDLE:
            exchange_drop(w, x, DROP_CLOSED)
