"""Connections to upstreams, from the first packet to the first use.

The peer may have closed an idle connection a moment ago. Where the request can be sent
a second time, sending it shows that; where it cannot, the socket is looked at first
(MSG_PEEK).

A connection that is being made is CONNECTING, then in HANDSHAKE if the upstream speaks
TLS, then BUSY. In the first two no byte of the request has moved, so that a backend
that does not answer costs no more than another dial.
"""

from libc.errno cimport EAGAIN, EBADMSG, EMFILE, EPROTO
from libc.stdint cimport uint16_t
from libc.stdio cimport snprintf
from libc.string cimport memset, strlen

from fastpath.base.addr cimport addr_is_loopback
from fastpath.base.end cimport (
    END_FULL,
    END_KEPT_ALIVE,
    END_NODELAY,
    END_POLLED,
    END_POLLED_OUT,
    END_WRITABLE,
)
from fastpath.base.linux.atomic cimport add_u32, sub_u32
from fastpath.base.linux.file cimport EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, close
from fastpath.base.linux.socket cimport (
    SOL_SOCKET,
    SO_ERROR,
    getpeername,
    getsockopt,
    sockaddr,
    sockaddr_storage,
    socklen_t,
)
from fastpath.base.linux.text cimport error_text
from fastpath.base.poller cimport TAG_UPCONN, poller_add, tag_make
from fastpath.base.slab cimport slab_take
from fastpath.base.stats cimport upstream_stats
from fastpath.base.timer cimport timer_arm, timer_disarm
from fastpath.http.idle cimport idle_take, upconn_leave
from fastpath.http.reply cimport exchange_fail
from fastpath.http.state cimport (
    STEP_CONNECTED,
    STEP_UNKNOWN,
    STEP_UNREACHED,
    STEP_WAIT,
    UPCONN_BUSY,
    UPCONN_CONNECTING,
    UPCONN_HANDSHAKE,
    upconn_t,
)
from fastpath.table.dialler cimport (
    DIAL,
    DIAL_LOCAL,
    DIAL_NO_BACKEND,
    DIAL_NO_DESCRIPTORS,
    DIAL_WAIT,
    attempt_t,
    dialler_backend,
    dialler_connect,
    dialler_failed,
    dialler_next,
    dialler_say,
    dialler_succeeded,
)
from fastpath.table.table cimport backend_t, table_pool, table_upstream
from fastpath.tls.context cimport tls_session
from fastpath.tls.transport cimport (
    transport_expect_plaintext,
    transport_handshake,
    transport_open,
    transport_read_plaintext,
    transport_resumed,
    transport_start_client,
    transport_why,
)


# ---- The life of a dial.

cdef upconn_t* upconn_new(
    conns_t* w, exchange_t* x, const upstream_t* v, const attempt_t* a
) noexcept nogil:
    cdef upconn_t* u = <upconn_t*>slab_take(&w.upconns)

    # The attempt's fd, and its place in backend.active, are ours: undo both.
    if u == NULL:
        close(a.fd)
        if a.backend.state != NULL:
            sub_u32(&a.backend.state.active, 1)
        return NULL
    transport_open(&u.link, a.fd)
    u.link.end.writable = END_FULL  # until it is connected
    u.link.end.flags = END_NODELAY | END_KEPT_ALIVE
    u.stamp = v.stamp
    u.upstream = v.state
    u.head_bytes = v.head_bytes
    u.head_lines = v.head_lines
    u.backend = a.backend.state
    u.address = a.backend.addr
    u.addressed = a.backend.state == NULL
    # Counted as long as it lives: Python gives the slot of an upstream away at 0.
    add_u32(&v.state.active, 1)
    u.state = UPCONN_CONNECTING
    u.exchange = x
    x.up = u
    return u


# A dial was begun: watch it, or go on at once if it has ended already.
cdef STEP upconn_start(
    conns_t* w, exchange_t* x, const upstream_t* v, const attempt_t* a, DIAL dial
) noexcept nogil:
    cdef upconn_t* u = upconn_new(w, x, v, a)
    cdef sockaddr_storage name
    cdef socklen_t size = sizeof(name)

    if u == NULL:
        return exchange_fail(w, x, 502, b"out of memory")
    if poller_add(
        &w.c.poller, a.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        tag_make(TAG_UPCONN, u.slot.index, u.slot.generation),
    ) < 0:
        dialler_say(w.why, a.backend, b"epoll: ", EMFILE)
        return STEP_UNREACHED
    u.link.end.flags |= END_POLLED | END_POLLED_OUT
    # Also for an address of the verdict's own: the setting is that of the pool.
    timer_arm(&w.c.wheel, &u.timer, w.c.now_ms + table_pool(w.c, v.pool).connect_ms)
    # On the same host the handshake has ended when connect(2) returns EINPROGRESS,
    # unless the accept queue is full: getpeername(2) tells, and saves a turn.
    if dial == DIAL_WAIT or getpeername(a.fd, <sockaddr*>&name, &size) == -1:
        return STEP_WAIT
    u.link.end.writable = END_WRITABLE
    return upconn_go_on(w, u, v)


# Dial the address that the verdict names, once, and no other.
cdef STEP upconn_dial_address(
    conns_t* w, exchange_t* x, const upstream_t* v, uint16_t failed
) noexcept nogil:
    cdef backend_t here
    cdef attempt_t a
    cdef STEP step

    # The dialler takes a backend of a table; this one is made up for it, without a
    # state, so that nothing is counted or ejected.
    if x.dial.tries > 0:
        return exchange_fail(w, x, failed, w.why)
    memset(&here, 0, sizeof(here))
    here.addr = x.verdict.address
    here.loopback = addr_is_loopback(&here.addr)
    memset(&a, 0, sizeof(a))
    a.kept_alive = True
    a.why = w.why
    a.backend = &here
    if dialler_connect(&x.dial, &a) < 0:
        upstream_stats(&w.c.stats, v.state.slot).unreached += 1
        return exchange_fail(w, x, failed, w.why)
    step = upconn_start(w, x, v, &a, DIAL_LOCAL if here.loopback else DIAL_WAIT)
    if step != STEP_UNREACHED:
        return step
    upconn_failed(w, x)
    return exchange_fail(w, x, failed, w.why)


# Dial until a backend may answer. `failed` is the status of the last one that did not.
cdef STEP upconn_dial(
    conns_t* w, exchange_t* x, const upstream_t* v, uint16_t failed
) noexcept nogil:
    cdef attempt_t a
    cdef DIAL dial
    cdef STEP step

    # Backends that fail at once are tried one after the other, here, without a turn of
    # the poller. The reply tells of the last failure.
    if x.verdict.address.family != 0:
        return upconn_dial_address(w, x, v, failed)
    a.hash = x.conn.source
    a.pin = x.conn.source
    a.source = NULL
    a.retries = &upstream_stats(&w.c.stats, v.state.slot).retries
    a.lazy_ack = False
    a.kept_alive = True
    a.why = w.why
    while True:
        dial = dialler_next(w.c, &x.dial, table_pool(w.c, v.pool), &a)
        if dial == DIAL_NO_BACKEND and x.dial.tries == 0:
            return exchange_fail(w, x, 503, b"no backend is usable")
        if dial == DIAL_NO_BACKEND or dial == DIAL_NO_DESCRIPTORS:
            return exchange_fail(w, x, failed, w.why)
        step = upconn_start(w, x, v, &a, dial)
        if step != STEP_UNREACHED:
            return step
        upconn_failed(w, x)


# The backend did not answer: count it, and remember not to try it again.
cdef void upconn_failed(conns_t* w, exchange_t* x) noexcept nogil:
    cdef const upstream_t* v = table_upstream(w.c, x.up.upstream.slot)

    # The caller's pool may be another one by now: look at the table in use.
    if x.up.addressed:
        # An address has no counters of its own: there are thousands of them.
        upstream_stats(&w.c.stats, x.up.upstream.slot).unreached += 1
        x.dial.tries += 1
    else:
        dialler_failed(
            w.c, &x.dial, table_pool(w.c, v.pool) if v != NULL else NULL, x.up.backend
        )
    upconn_leave(w, x, False)


# Write what failed into w.why, with the address that `u` leads to.
cdef void upconn_say(
    conns_t* w, const upconn_t* u, const upstream_t* v, const char* what, int error
) noexcept nogil:
    cdef const backend_t* b
    cdef backend_t here

    if u.addressed:
        memset(&here, 0, sizeof(here))
        here.addr = u.address
        dialler_say(w.why, &here, what, error)
        return
    # Without a backend in the table any more, the text of the failure before it stays.
    b = dialler_backend(table_pool(w.c, v.pool), u.backend)
    if b != NULL:
        dialler_say(w.why, b, what, error)


# ---- Steps of a connection that is being made.

# SO_ERROR is 0: begin TLS, if the upstream speaks it.
cdef STEP upconn_connected(conns_t* w, upconn_t* u, const upstream_t* v) noexcept nogil:
    cdef const backend_t* b = dialler_backend(table_pool(w.c, v.pool), u.backend)
    cdef int failed

    # Readable as of now: bytes that came before the first read bring no other event.
    u.link.end.readable = 1
    if v.tls == NULL:
        return upconn_ready(w, u)
    u.state = UPCONN_HANDSHAKE
    failed = transport_start_client(
        &u.link, v.tls[w.c.worker], &w.buffers, v.server_name,
        # A session is kept for each upstream. With an address of the verdict's own, the
        # next connection leads to another server, which must not be offered it.
        NULL if u.addressed else tls_session(v.tls[w.c.worker]),
    )
    if failed < 0:
        snprintf(w.why, sizeof(w.why), b"tls: no memory")
        return STEP_UNREACHED
    if b != NULL and b.path != NULL:
        # A unix socket leads through the proxy of kubeconfig's `proxy-url`: where that
        # finds no way, it writes a plain-text reason instead of a ServerHello.
        transport_expect_plaintext(&u.link)
    return upconn_handshake(w, u)


cdef STEP upconn_handshake(conns_t* w, upconn_t* u) noexcept nogil:
    cdef int done = transport_handshake(&u.link)
    cdef size_t used

    # Of the failures, EBADMSG is a plain-text reason, EPROTO has one of OpenSSL's, and
    # any other comes from the socket.
    if done == 1:
        if transport_resumed(&u.link):
            upstream_stats(&w.c.stats, u.upstream.slot).resumed += 1
        return upconn_ready(w, u)
    if done == -EAGAIN:
        return STEP_WAIT
    if done == -EBADMSG:
        transport_read_plaintext(&u.link, w.why, sizeof(w.why))
        return STEP_UNREACHED
    snprintf(w.why, sizeof(w.why), b"tls: ")
    used = strlen(w.why)
    if done == -EPROTO:
        transport_why(&u.link, w.why + used, sizeof(w.why) - used)
    else:
        error_text(-done, w.why + used, sizeof(w.why) - used)
    return STEP_UNREACHED


cdef STEP upconn_ready(conns_t* w, upconn_t* u) noexcept nogil:
    # Only now: a backend that accepts and then fails each TLS handshake is no success.
    if u.backend != NULL:
        dialler_succeeded(w.c, &u.exchange.dial, u.backend)
    timer_disarm(&u.timer)
    u.state = UPCONN_BUSY
    return STEP_CONNECTED


# Go on with this connection, and dial no other. STEP_UNREACHED: it has failed.
cdef STEP upconn_go_on(conns_t* w, upconn_t* u, const upstream_t* v) noexcept nogil:
    cdef int error = 0
    cdef socklen_t size = sizeof(error)

    if u.state == UPCONN_HANDSHAKE:
        return upconn_handshake(w, u)
    if not u.link.end.writable:
        return STEP_WAIT  # the event was one of the client
    getsockopt(u.link.end.fd, SOL_SOCKET, SO_ERROR, &error, &size)
    if error == 0:
        return upconn_connected(w, u, v)
    upconn_say(w, u, v, b"connect: ", error)
    return STEP_UNREACHED


# Its time to connect is over, or its backend was reset: say so in Go's words.
cdef void upconn_say_late(
    conns_t* w, const upconn_t* u, const upstream_t* v
) noexcept nogil:
    if u.state == UPCONN_HANDSHAKE:
        snprintf(w.why, sizeof(w.why), b"net/http: TLS handshake timeout")
    else:
        upconn_say(w, u, v, b"i/o timeout", 0)


# ---- The step of an exchange.

# In order: is the upstream still the one that was meant; take an idle connection, if
# there is one; else dial. Called again while the dial goes on, by whatever event.
cdef STEP upconn_reach(conns_t* w, exchange_t* x) noexcept nogil:
    cdef const upstream_t* v = upstream_of(w, x)
    cdef uint16_t failed = 502
    cdef STEP step

    if v == NULL:
        # The verdict is of a table before this one. Nothing was sent: ask Python again.
        upconn_leave(w, x, False)
        return STEP_UNKNOWN
    if x.up == NULL:
        # After an idle connection that had ended, the others are likely to have, too.
        if not x.idle_ended:
            x.up = idle_take(w, v, x.verdict, exchange_repeats(x))
        x.idle_ended = 0
        if x.up == NULL:
            return upconn_dial(w, x, v, failed)
        x.up.exchange = x
        x.up.keep = 0  # until the response to this request says so
        upstream_stats(&w.c.stats, v.state.slot).reused += 1
        return STEP_CONNECTED
    if x.up.connect_timed_out:
        upconn_say_late(w, x.up, v)
        failed = 504  # for the reply, if no other backend answers
    else:
        step = upconn_go_on(w, x.up, v)
        if step != STEP_UNREACHED:
            return step
    # This backend is counted as failed; dial another, if tries are left.
    upconn_failed(w, x)
    return upconn_dial(w, x, v, failed)
