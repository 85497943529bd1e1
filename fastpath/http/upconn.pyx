"""Upstream connections of one worker.

A kept connection may have been closed by its other side a moment ago. Where the request
can be sent a second time, that is found out by sending it; where it cannot, the socket
is asked first.
"""

from libc.errno cimport EAGAIN, EBADMSG, EINPROGRESS, EMFILE, EPROTO, errno
from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf
from libc.string cimport strlen

from fastpath.base.linux.atomic cimport add_u32
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.linux.file cimport EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP, close
from fastpath.base.linux.socket cimport (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    SO_ERROR,
    TCP_NODELAY,
    connect,
    getpeername,
    getsockopt,
    inet_ntop,
    setsockopt,
    sockaddr,
    sockaddr_storage,
    socket,
    socklen_t,
)
from fastpath.base.linux.text cimport error_text
from fastpath.base.poller cimport TAG_UPCONN, poller_add, tag_make
from fastpath.base.slab cimport SLAB_NONE, slab_take
from fastpath.base.socket cimport socket_keepalive
from fastpath.base.stats cimport vip_stats, web_stats
from fastpath.base.timer cimport timer_arm, timer_disarm
from fastpath.http.idle cimport (
    exchange_leave_upconn,
    idle_take,
    upconn_at,
    upconn_close,
)
from fastpath.http.state cimport (
    TRIES_MOST,
    UPCONN_BUSY,
    UPCONN_CONNECTING,
    UPCONN_HANDSHAKE,
    idle_set_t,
)
from fastpath.table.balancer cimport balancer_pick, pick_t
from fastpath.table.dialler cimport dial_note_failure, dial_note_success
from fastpath.table.registry cimport backend_state_t
from fastpath.table.table cimport backend_sockaddr, backend_t, table_vip, uplink_t
from fastpath.tls.context cimport tls_session
from fastpath.tls.transport cimport (
    transport_expect_plaintext,
    transport_handshake,
    transport_idle_ok,
    transport_open,
    transport_read_plaintext,
    transport_resumed,
    transport_start_client,
    transport_why,
)

cdef enum:
    KEEPALIVE_S = 30        # TCP probes to an upstream, as kubectl's


cdef vip_t* upstream_of(conns_t* w, const exchange_t* x) noexcept nogil:
    cdef vip_t* v = table_vip(w.c, x.verdict.upstream)

    if v == NULL or v.uplink == NULL or v.uplink.stamp != x.verdict.stamp:
        return NULL
    return v


# ---- Making connections.

cdef backend_t* upstream_pick(conns_t* w, exchange_t* x, vip_t* v) noexcept nogil:
    cdef pick_t ask
    cdef uint32_t i

    if x.tries >= v.pool.tries:
        return NULL
    ask.hash = x.source
    ask.now_ms = w.c.now_ms
    ask.tried_count = x.tries
    for i in range(x.tries):
        ask.tried[i] = x.tried[i]
    return balancer_pick(v, &ask, &w.c.seed)


# Say what went wrong as Go's net package does: users and scripts know those texts.
cdef void say_dial(
    conns_t* w, const backend_t* b, const char* what, int error
) noexcept nogil:
    cdef char ip[64]
    cdef char why[128]

    why[0] = 0
    if error != 0:
        error_text(error, why, sizeof(why))
    if b.addr.family == AF_INET or b.addr.family == AF_INET6:
        inet_ntop(b.addr.family, b.addr.ip, ip, sizeof(ip))
        snprintf(
            w.why, sizeof(w.why),
            b"dial tcp [%s]:%u: %s%s" if b.addr.family == AF_INET6 else
            b"dial tcp %s:%u: %s%s",
            ip, <unsigned int>b.addr.port, what, why,
        )
    else:
        snprintf(w.why, sizeof(w.why), b"dial unix %s: %s%s", b.path, what, why)


# The backend did not answer: count it, and remember not to try it again.
cdef void upconn_failed(conns_t* w, exchange_t* x, upconn_t* s) noexcept nogil:
    cdef backend_state_t* b = s.backend

    if x.tries < TRIES_MOST:
        x.tried[x.tries] = b.slot
        x.tries += 1
    dial_note_failure(w.c, table_vip(w.c, s.upstream.slot), b)
    exchange_leave_upconn(w, x, False)


cdef upconn_t* upconn_new(conns_t* w, vip_t* v, backend_t* b, int fd) noexcept nogil:
    cdef upconn_t* s = <upconn_t*>slab_take(&w.upconns)

    if s == NULL:
        close(fd)
        return NULL
    transport_open(&s.link, fd)
    s.stamp = v.uplink.stamp
    s.upstream = v.state
    s.backend = b.state
    add_u32(&v.state.active, 1)
    add_u32(&b.state.active, 1)
    s.began_us = clock_us()
    s.state = UPCONN_CONNECTING
    return s


# Start to connect to `b`. REACH_FAILED with x.up NULL = out of descriptors or memory,
# with errno; else as upconn_go_on.
cdef REACH upconn_dial(
    conns_t* w, exchange_t* x, vip_t* v, backend_t* b
) noexcept nogil:
    cdef sockaddr_storage name
    cdef socklen_t size = backend_sockaddr(b, &name)
    cdef int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    cdef int on = 1
    cdef upconn_t* s

    x.up = NULL
    if fd == -1:
        say_dial(w, b, b"socket: ", errno)
        return REACH_FAILED
    s = upconn_new(w, v, b, fd)
    if s == NULL:
        return REACH_FAILED
    x.up = s
    s.exchange = x
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    socket_keepalive(fd, KEEPALIVE_S, 0)
    if connect(fd, <sockaddr*>&name, size) == -1 and errno != EINPROGRESS:
        say_dial(w, b, b"connect: ", errno)
        return REACH_FAILED
    if poller_add(
        &w.c.poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        tag_make(TAG_UPCONN, s.slot.index, s.slot.generation),
    ) < 0:
        say_dial(w, b, b"epoll: ", EMFILE)
        return REACH_FAILED
    timer_arm(&w.c.wheel, &s.timer, w.c.now_ms + v.pool.connect_ms)
    # On the same host the handshake has ended when connect(2) returns, or its accept
    # queue is full: only its name tells.
    if not b.loopback or getpeername(fd, <sockaddr*>&name, &size) == -1:
        return REACH_WAIT
    return upconn_step(w, s, v)


cdef backend_t* backend_of(vip_t* v, const upconn_t* s) noexcept nogil:
    cdef uint32_t i

    for i in range(v.pool.count):
        if v.pool.backends[i].state == s.backend:
            return &v.pool.backends[i]
    return NULL


cdef REACH upstream_dial(conns_t* w, exchange_t* x, vip_t* v) noexcept nogil:
    cdef backend_t* b
    cdef REACH reach

    while True:
        b = upstream_pick(w, x, v)
        if b == NULL:
            return REACH_FAILED if x.tries > 0 else REACH_NO_BACKEND
        if x.tries > 0:
            vip_stats(&w.c.stats, v.state.slot).retries += 1
        reach = upconn_dial(w, x, v, b)
        if reach != REACH_FAILED:
            return reach
        if x.up == NULL:
            return REACH_FAILED  # of our own making: another backend would not help
        upconn_failed(w, x, x.up)


cdef upconn_t* upconn_idle(conns_t* w, exchange_t* x, vip_t* v) noexcept nogil:
    cdef idle_set_t* k = &w.idle_sets[v.state.slot]
    cdef upconn_t* s

    while k.newest != SLAB_NONE:
        s = upconn_at(w, k.newest)
        if s.stamp == v.uplink.stamp and (
            upstream_repeats(x) or transport_idle_ok(&s.link)
        ):
            idle_take(w, s)
            return s
        upconn_close(w, s, False)
    return NULL


cdef REACH upconn_reach(conns_t* w, exchange_t* x, bint fresh) noexcept nogil:
    cdef vip_t* v = upstream_of(w, x)
    cdef upconn_t* s = NULL

    if v == NULL:
        return REACH_GONE
    if not fresh:
        s = upconn_idle(w, x, v)
    if s == NULL:
        return upstream_dial(w, x, v)
    x.up = s
    s.exchange = x
    web_stats(&w.c.stats, v.state.slot).reused += 1
    return REACH_READY


# The TCP connection stands, or so we hope.
cdef REACH upconn_connected(
    conns_t* w, upconn_t* s, const uplink_t* u, const backend_t* b
) noexcept nogil:
    cdef int failed

    s.link.end.writable = 1
    s.link.end.readable = 1
    if u.tls == NULL:
        return upconn_ready(w, s)
    s.state = UPCONN_HANDSHAKE
    failed = transport_start_client(
        &s.link, u.tls[w.c.worker], &w.buffers, u.server_name,
        tls_session(u.tls[w.c.worker]),
    )
    if failed < 0:
        snprintf(w.why, sizeof(w.why), b"tls: no memory")
        return REACH_FAILED
    if b != NULL and b.path != NULL:
        transport_expect_plaintext(&s.link)
    return upconn_handshake(w, s)


cdef REACH upconn_handshake(conns_t* w, upconn_t* s) noexcept nogil:
    cdef int done = transport_handshake(&s.link)
    cdef size_t used

    if done == 1:
        if transport_resumed(&s.link):
            web_stats(&w.c.stats, s.upstream.slot).resumed += 1
        return upconn_ready(w, s)
    if done == -EAGAIN:
        return REACH_WAIT
    if done == -EBADMSG:
        transport_read_plaintext(&s.link, w.why, sizeof(w.why))
        return REACH_FAILED
    snprintf(w.why, sizeof(w.why), b"tls: ")
    used = strlen(w.why)
    if done == -EPROTO:
        transport_why(&s.link, w.why + used, sizeof(w.why) - used)
    else:
        error_text(-done, w.why + used, sizeof(w.why) - used)
    return REACH_FAILED


cdef REACH upconn_ready(conns_t* w, upconn_t* s) noexcept nogil:
    dial_note_success(w.c, s.backend, s.began_us)
    timer_disarm(&s.timer)
    s.state = UPCONN_BUSY
    return REACH_READY


# One step of a connection that is being made, without another try.
cdef REACH upconn_step(conns_t* w, upconn_t* s, vip_t* v) noexcept nogil:
    cdef backend_t* b = backend_of(v, s)
    cdef int error = 0
    cdef socklen_t size = sizeof(error)

    if s.state == UPCONN_CONNECTING:
        getsockopt(s.link.end.fd, SOL_SOCKET, SO_ERROR, &error, &size)
        if error != 0:
            if b != NULL:
                say_dial(w, b, b"connect: ", error)
            return REACH_FAILED
        return upconn_connected(w, s, v.uplink, b)
    s.link.end.readable = 1
    s.link.end.writable = 1
    return upconn_handshake(w, s)


# The attempt failed, for the reason in w.why: go on with another backend.
cdef REACH upstream_next(
    conns_t* w, exchange_t* x, vip_t* v, REACH failed
) noexcept nogil:
    cdef REACH reach

    upconn_failed(w, x, x.up)
    reach = upstream_dial(w, x, v)
    return failed if reach == REACH_FAILED else reach


cdef REACH upconn_go_on(conns_t* w, upconn_t* s) noexcept nogil:
    cdef exchange_t* x = s.exchange
    cdef vip_t* v = upstream_of(w, x)
    cdef REACH reach

    if v == NULL:
        return REACH_GONE
    reach = upconn_step(w, s, v)
    return upstream_next(w, x, v, reach) if reach == REACH_FAILED else reach


cdef REACH upconn_late(conns_t* w, upconn_t* s) noexcept nogil:
    cdef exchange_t* x = s.exchange
    cdef vip_t* v = upstream_of(w, x)
    cdef backend_t* b

    if v == NULL:
        return REACH_GONE
    b = backend_of(v, s)
    if s.state == UPCONN_HANDSHAKE:
        snprintf(w.why, sizeof(w.why), b"net/http: TLS handshake timeout")
    elif b != NULL:
        say_dial(w, b, b"i/o timeout", 0)
    return upstream_next(w, x, v, REACH_TIMEOUT)
