"""A client's connection: its memory, its deadlines, its end.

Between two requests a connection holds its slot and nothing else: the exchange, the
input and the parsed head are lent for as long as a request is in work. Nothing here
knows what an exchange does next: see exchange.pyx.
"""

from libc.errno cimport EAGAIN, ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strlen

from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_refuse
from fastpath.base.end cimport END_NODELAY, END_POLLED
from fastpath.base.half cimport half_release
from fastpath.base.linux.atomic cimport store_u64
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.linux.file cimport EPOLLET, EPOLLIN, EPOLLRDHUP
from fastpath.base.linux.socket cimport MSG_NOSIGNAL, recv, send
from fastpath.base.poller cimport TAG_CONN, poller_add, tag_make
from fastpath.base.slab cimport (
    KIND_CONN,
    KIND_OTHER,
    KIND_UPCONN,
    slab_at,
    slab_count,
    slab_fini,
    slab_give,
    slab_init,
    slab_take,
)
from fastpath.base.spill cimport SCRATCH_BYTES, spill_put
from fastpath.base.stats cimport (
    DROP_CLOSED,
    DROP_ENGINE_CLOSED,
    DROP_HEADER_TIMEOUT,
    DROP_IDLE_TIMEOUT,
    DROP_NO_BACKEND,
    DROP_NO_DESCRIPTORS,
    DROP_NO_MEMORY,
    DROP_RESET_BY_ADMIN,
    DROP_TLS_HANDSHAKE,
    http_stats,
    vip_stats,
    vip_stats_t,
)
from fastpath.base.timer cimport timer_arm, timer_disarm
from fastpath.http.asking cimport asking_withdraw
from fastpath.http.body cimport pending_drop
from fastpath.http.heads cimport head_return, heads_fini, heads_init
from fastpath.http.idle cimport idle_fini, upconn_leave
from fastpath.http.meter cimport meter_leave
from fastpath.http.pages cimport rewrite_free
from fastpath.http.record cimport exchange_count, record_end
from fastpath.http.state cimport (
    CONN_FLOWING,
    CONN_HANDSHAKE,
    CONN_IDLE,
    LINGER_BYTES,
    OUT_BYTES,
    STEP_CLIENT_FAILED,
    STEP_CLOSED,
    STEP_LINGER,
    STEP_NO_MEMORY,
    STEP_ON,
    STEP_SECURED,
    STEP_TLS_FAILED,
    STEP_WAIT,
    http_of,
    upconn_t,
)
from fastpath.http.verdict cimport memory_fini, memory_init, verdict_release
from fastpath.table.admission cimport vip_admit, vip_leave
from fastpath.table.balancer cimport source_hash
from fastpath.table.table cimport http_t, table_vip, vip_t
from fastpath.tls.buffers cimport buffers_fini, buffers_init
from fastpath.tls.transport cimport (
    transport_close,
    transport_handshake,
    transport_met,
    transport_met_http,
    transport_open,
    transport_read,
    transport_resumed,
    transport_shut,
    transport_start_server,
)

# The text of Go's server, for a client whose URL has http instead of https.
cdef const char* NO_TLS = (
    b"HTTP/1.0 400 Bad Request\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)


# ---- Memory.

cdef int conns_init(
    conns_t* w, context_t* c, mailbox_t* questions, const epochs_t* epochs,
    budget_t* budget, parked_t* parked, uint64_t tls_bytes,
) noexcept nogil:
    memset(w, 0, sizeof(conns_t))
    w.c = c
    w.questions = questions
    w.epochs = epochs
    w.parked = parked
    slab_init(&w.conns, sizeof(conn_t), KIND_CONN)
    slab_init(&w.exchanges, sizeof(exchange_t), KIND_OTHER)
    slab_init(&w.upconns, sizeof(upconn_t), KIND_UPCONN)
    memory_init(&w.memory, budget, epochs)
    buffers_init(&w.buffers, tls_bytes)
    w.out = <char*>malloc(OUT_BYTES)
    return 0 if w.out != NULL and heads_init(w) else -ENOMEM


cdef void conns_drop_all(conns_t* w, DROP reason) noexcept nogil:
    cdef conn_t* conn
    cdef uint32_t i

    for i in range(slab_count(&w.conns)):
        conn = <conn_t*>slab_at(&w.conns, i)
        if conn.slot.live:
            conn_drop(w, conn, reason)


cdef void conns_fini(conns_t* w) noexcept nogil:
    if w.c == NULL:
        return
    # Clients first: each closes its upstream connection; idle_fini closes the others.
    conns_drop_all(w, DROP_ENGINE_CLOSED)
    idle_fini(w)
    slab_fini(&w.conns)
    slab_fini(&w.exchanges)
    slab_fini(&w.upconns)
    memory_fini(&w.memory)
    buffers_fini(&w.buffers)
    heads_fini(w)
    free(w.out)
    w.c = NULL


cdef void conns_reset(conns_t* w) noexcept nogil:
    conns_drop_all(w, DROP_RESET_BY_ADMIN)


cdef void conns_retire(conns_t* w, uint32_t slot) noexcept nogil:
    cdef conn_t* conn
    cdef uint32_t i

    for i in range(slab_count(&w.conns)):
        conn = <conn_t*>slab_at(&w.conns, i)
        if not conn.slot.live or conn.vip.slot != slot:
            continue
        conn.vip_drains = 1
        # A head that is not sent yet says "close"; one that was sent has promised to
        # keep the connection, which ends after the response all the same.
        if conn.exchange == NULL or not conn.exchange.answering:
            conn.keep = 0
        if conn.state == CONN_IDLE:
            conn_drop(w, conn, DROP_CLOSED)


cdef void conn_until(conns_t* w, conn_t* conn, uint32_t ms) noexcept nogil:
    conn.deadline_ms = w.c.now_ms + ms if ms > 0 else 0
    # A timer that fires too early finds the later deadline and is armed again: to move
    # it with each request would cost more than that.
    if ms > 0 and (
        conn.timer.prev == NULL or conn.timer.deadline_ms > conn.deadline_ms
    ):
        timer_arm(&w.c.wheel, &conn.timer, conn.deadline_ms)


cdef void input_drop(conns_t* w, conn_t* conn) noexcept nogil:
    if conn.input != NULL:
        spill_put(&w.c.mover, conn.input)
        conn.input = NULL


cdef void input_take(conns_t* w, conn_t* conn, uint32_t size) noexcept nogil:
    # Moved by its offset, not in memory: head_read makes room when it needs it.
    conn.input.first += size
    conn.input.used -= size
    if conn.input.used == 0:
        input_drop(w, conn)


# ---- The exchange that is in work.

cdef exchange_t* exchange_new(conns_t* w, conn_t* conn) noexcept nogil:
    cdef exchange_t* x = <exchange_t*>slab_take(&w.exchanges)

    # The clock starts with the last byte of the head: how long a client took to send it
    # says nothing about us or the upstream.
    if x != NULL:
        x.conn = conn
        x.began_us = clock_us()
        conn.exchange = x
    return x


cdef void exchange_free(conns_t* w, exchange_t* x, bint reset) noexcept nogil:
    if x == NULL:
        return
    # An upstream connection that can be kept was taken away by upconn_keep before: one
    # that is still here is of no more use.
    x.conn.exchange = NULL
    upconn_leave(w, x, reset)
    pending_drop(&w.c.mover, &x.to_up)
    if x.upgrade:  # only a tunnel uses its halves; zeroed, they own nothing
        half_release(&w.c.mover, &x.half[0])
        half_release(&w.c.mover, &x.half[1])
    head_return(w, x.head)
    meter_leave(x)
    rewrite_free(w, x)
    verdict_release(x.verdict)
    free(x.record)
    free(x.question)
    slab_give(&w.exchanges, x)


# ---- Open and drop.

# Take a place among the clients of the vip, or refuse the fd.
cdef conn_t* conn_admit(
    conns_t* w, int fd, vip_t* v, const addr_t* client
) noexcept nogil:
    cdef conn_t* conn = <conn_t*>slab_take(&w.conns)
    cdef int limit

    if conn == NULL:
        context_refuse(w.c, fd, v.state.slot, DROP_NO_MEMORY)
        return NULL
    # A refused client was counted by the limits, too: vip_leave takes it out again.
    conn.source = source_hash(client)
    limit = vip_admit(v, conn.source, w.c.now_ms, &conn.by_source)
    if limit >= 0:
        vip_leave(v.state, conn.source, conn.by_source)
        context_refuse(w.c, fd, v.state.slot, <DROP>limit)
        slab_give(&w.conns, conn)
        return NULL
    transport_open(&conn.down, fd)
    conn.down.end.flags = END_POLLED | END_NODELAY  # Nagle's is the listener's
    conn.vip = v.state
    conn.client = client[0]
    conn.keep = 1
    vip_stats(&w.c.stats, v.state.slot).accepted += 1
    vip_stats(&w.c.stats, v.state.slot).active += 1
    store_u64(&w.c.stats.active, w.c.stats.active + 1)
    return conn


cdef conn_t* conn_new(
    conns_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil:
    cdef vip_t* v = table_vip(w.c, vip)
    cdef conn_t* conn

    # In order: the vip, which a newer table may have taken away since accept(2); its
    # limits; the poller; then TLS, or wait for a request.
    if v == NULL or v.http == NULL:
        context_refuse(w.c, fd, vip, DROP_NO_BACKEND)
        return NULL
    conn = conn_admit(w, fd, v, client)
    if conn == NULL:
        return NULL
    # Not for EPOLLOUT yet: see exchange_run.
    if poller_add(
        &w.c.poller, fd, EPOLLIN | EPOLLRDHUP | EPOLLET,
        tag_make(TAG_CONN, conn.slot.index, conn.slot.generation),
    ) < 0:
        conn_drop(w, conn, DROP_NO_DESCRIPTORS)
        return NULL
    if v.http.tls == NULL:
        conn.state = CONN_IDLE
        conn_until(w, conn, v.http.idle_ms)
        return conn
    conn.state = CONN_HANDSHAKE
    conn_until(w, conn, v.http.header_ms)
    return conn


# Whether the client must see a reset, so that it does not take what came for whole: a
# FIN would be the proper end of a response without a length.
cdef bint drop_resets(const conn_t* conn, DROP reason) noexcept nogil:
    if reason == DROP_CLOSED or reason == DROP_HEADER_TIMEOUT:
        return False  # all was sent, or nothing
    if reason == DROP_TLS_HANDSHAKE:
        return False  # RST discards what was not read yet: the alert that says why
    return reason != DROP_IDLE_TIMEOUT or conn.state == CONN_FLOWING


cdef void conn_drop(conns_t* w, conn_t* conn, DROP reason) noexcept nogil:
    cdef bint reset = drop_resets(conn, reason)
    cdef vip_stats_t* stats = vip_stats(&w.c.stats, conn.vip.slot)
    cdef exchange_t* x = conn.exchange

    # In order: count; leave the limits; give back what the exchange has, which may
    # close an upstream connection; close the client's.
    if x != NULL and x.began_us > 0 and (
        conn.state == CONN_FLOWING or x.answering
    ):
        exchange_count(w, x, False)
    elif x != NULL:
        record_end(w, x)  # of a tunnel, or of a request that a log must not miss
    # Count before closing, so that a client that saw the close also sees the counter.
    stats.closed[<int>reason] += 1
    stats.active -= 1
    store_u64(&w.c.stats.active, w.c.stats.active - 1)
    # From here on conn.vip may be another vip's: see vip_leave.
    vip_leave(conn.vip, conn.source, conn.by_source)
    asking_withdraw(w, conn)
    exchange_free(w, x, reset)
    timer_disarm(&conn.timer)
    transport_close(&conn.down, reset)
    input_drop(w, conn)
    pending_drop(&w.c.mover, &conn.to_down)
    slab_give(&w.conns, conn)


# ---- Steps of the connection itself.

# The client of TLS has said something, or has gone.
cdef STEP conn_meet(conns_t* w, conn_t* conn) noexcept nogil:
    cdef http_t* http = http_of(w, conn)
    cdef int met = transport_met(&conn.down)

    if met == -EAGAIN:
        return STEP_WAIT
    if met <= 0:
        return STEP_CLIENT_FAILED
    if http == NULL or http.tls == NULL:
        return STEP_TLS_FAILED  # the vip has gone since, or does not speak it any more
    if transport_start_server(&conn.down, http.tls[w.c.worker], &w.buffers) < 0:
        return STEP_NO_MEMORY
    return STEP_ON


cdef STEP conn_secure(conns_t* w, conn_t* conn) noexcept nogil:
    cdef STEP step
    cdef int done

    if conn.down.ssl == NULL:
        step = conn_meet(w, conn)
        if step != STEP_ON:
            return step
    done = transport_handshake(&conn.down)
    if done == 1:
        if transport_resumed(&conn.down):
            http_stats(&w.c.stats, conn.vip.slot).resumed += 1
        return STEP_SECURED
    if done == -EAGAIN:
        return STEP_WAIT
    if transport_met_http(&conn.down):
        send(conn.down.end.fd, NO_TLS, strlen(NO_TLS), MSG_NOSIGNAL)
        # close(2) sends RST instead of FIN while bytes are unread, and the client would
        # lose the reply: read what OpenSSL left in the socket.
        recv(conn.down.end.fd, w.c.mover.scratch, SCRATCH_BYTES, 0)
    # A client that left during the handshake, as port scanners do, is no TLS error.
    return STEP_CLIENT_FAILED if conn.down.eof else STEP_TLS_FAILED


cdef STEP conn_end(conns_t* w, conn_t* conn, bint whole) noexcept nogil:
    if conn.input == NULL and whole and not conn.down.end.readable:
        return STEP_CLOSED  # all that the client sent was read
    # close(2) with bytes unread sends RST, and the client would lose the response that
    # it did not read yet (RFC 9112 9.6): send FIN, and read for a while what comes.
    input_drop(w, conn)
    transport_shut(&conn.down)
    return STEP_LINGER


cdef STEP conn_linger(conns_t* w, conn_t* conn) noexcept nogil:
    cdef ssize_t n = 1

    while conn.down.end.readable and conn.lingered < LINGER_BYTES:
        n = transport_read(&conn.down, w.c.mover.scratch, SCRATCH_BYTES)
        if n <= 0:
            break
        conn.lingered += <uint32_t>n
    # Until the client's FIN, 1 MiB, or LINGER_MS, which conn_timer ends.
    if n == -EAGAIN or (n > 0 and conn.lingered < LINGER_BYTES):
        return STEP_WAIT
    return STEP_CLOSED


# A peer that stalls mid-body is dropped after `stall_ms`. An upstream may take as long
# as it likes for its response, and for the body of it: watches are idle for hours.
cdef void conn_stall(conns_t* w, conn_t* conn) noexcept nogil:
    cdef http_t* http = http_of(w, conn)
    cdef exchange_t* x = conn.exchange
    cdef bint waits = conn.to_down.first != NULL or x.to_up.first != NULL

    # Of a pause no peer is guilty.
    if x.paused or not waits and (x.request.done or x.request_abandoned):
        conn.deadline_ms = 0
    # A deadline that stands is not moved. An event of the client, or room at the
    # upstream, clears it (conn_event, upconn_event); then this sets the next one.
    elif conn.deadline_ms == 0 and http != NULL:
        conn_until(w, conn, http.stall_ms)
