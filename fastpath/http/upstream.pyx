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
from fastpath.base.poller cimport TAG_SERVER, poller_add, tag_make
from fastpath.base.slab cimport SLAB_NONE, slab_take
from fastpath.base.socket cimport socket_keepalive
from fastpath.base.stats cimport upstream_stats
from fastpath.base.timer cimport TIMER_SERVER, timer_arm, timer_disarm
from fastpath.http.keepset cimport keepset_take, server_at, server_close, upstream_leave
from fastpath.http.web cimport (
    SV_BUSY,
    SV_CONNECTING,
    SV_HANDSHAKE,
    TRIES_MOST,
    keepset_t,
)
from fastpath.table.balancer cimport balancer_pick, pick_t
from fastpath.table.block cimport backend_sockaddr
from fastpath.table.dialler cimport dial_note_failure, dial_note_success
from fastpath.table.registry cimport backend_state_t
from fastpath.table.table cimport backend_t, pool_t, table_pool, table_upstream
from fastpath.tls.context cimport tls_session
from fastpath.tls.transport cimport (
    transport_excuse,
    transport_handshake,
    transport_heed_letters,
    transport_idle_ok,
    transport_open,
    transport_resumed,
    transport_start_client,
    transport_why,
)

cdef enum:
    KEEPALIVE_S = 30        # TCP probes to an upstream, as kubectl's


cdef upstream_t* upstream_of(web_t* w, const exchange_t* x) noexcept nogil:
    cdef upstream_t* u = table_upstream(w.c, x.verdict.upstream)

    return u if u != NULL and u.stamp == x.verdict.stamp else NULL


# ---- Making connections.

cdef backend_t* upstream_pick(
    web_t* w, exchange_t* x, const upstream_t* u
) noexcept nogil:
    cdef const pool_t* pool = table_pool(w.c, u.pool)
    cdef pick_t ask
    cdef uint32_t i

    if x.tries >= pool.tries:
        return NULL
    ask.hash = x.source
    ask.now_ms = w.c.now_ms
    ask.tried_count = x.tries
    for i in range(x.tries):
        ask.tried[i] = x.tried[i]
    return balancer_pick(pool, &ask, &w.c.seed)


# Say what went wrong as Go's net package does: users and scripts know those texts.
cdef void say_dial(
    web_t* w, const backend_t* b, const char* what, int error
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
cdef void server_failed(web_t* w, exchange_t* x, server_t* s) noexcept nogil:
    cdef backend_state_t* b = s.backend
    cdef const upstream_t* u = table_upstream(w.c, s.upstream.slot)

    if x.tries < TRIES_MOST:
        x.tried[x.tries] = b.slot
        x.tries += 1
    dial_note_failure(w.c, table_pool(w.c, u.pool) if u != NULL else NULL, b)
    upstream_leave(w, x, False)


cdef server_t* server_new(web_t* w, upstream_t* u, backend_t* b, int fd) noexcept nogil:
    cdef server_t* s = <server_t*>slab_take(&w.servers)

    if s == NULL:
        close(fd)
        return NULL
    transport_open(&s.link, fd)
    s.timer.kind = TIMER_SERVER
    s.stamp = u.stamp
    s.upstream = u.state
    s.backend = b.state
    add_u32(&u.state.active, 1)
    add_u32(&b.state.active, 1)
    s.began_us = clock_us()
    s.state = SV_CONNECTING
    return s


# Start to connect to `b`. REACH_FAILED with x.up NULL = out of descriptors or memory,
# with errno; else as upstream_go_on.
cdef REACH server_dial(
    web_t* w, exchange_t* x, upstream_t* u, backend_t* b
) noexcept nogil:
    cdef sockaddr_storage name
    cdef socklen_t size = backend_sockaddr(b, &name)
    cdef int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    cdef int on = 1
    cdef server_t* s

    x.up = NULL
    if fd == -1:
        say_dial(w, b, b"socket: ", errno)
        return REACH_FAILED
    s = server_new(w, u, b, fd)
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
        tag_make(TAG_SERVER, s.slot.index, s.slot.generation),
    ) < 0:
        say_dial(w, b, b"epoll: ", EMFILE)
        return REACH_FAILED
    timer_arm(&w.c.wheel, &s.timer, w.c.now_ms + table_pool(w.c, u.pool).connect_ms)
    # On the same host the handshake has ended when connect(2) returns, or its accept
    # queue is full: only its name tells.
    if not b.loopback or getpeername(fd, <sockaddr*>&name, &size) == -1:
        return REACH_WAIT
    return server_step(w, s, u)


cdef backend_t* backend_of(
    web_t* w, const upstream_t* u, const server_t* s
) noexcept nogil:
    cdef const pool_t* pool = table_pool(w.c, u.pool)
    cdef uint32_t i

    for i in range(pool.count):
        if pool.backends[i].state == s.backend:
            return &pool.backends[i]
    return NULL


cdef REACH upstream_dial(web_t* w, exchange_t* x, upstream_t* u) noexcept nogil:
    cdef backend_t* b
    cdef REACH reach

    while True:
        b = upstream_pick(w, x, u)
        if b == NULL:
            return REACH_FAILED if x.tries > 0 else REACH_NO_BACKEND
        if x.tries > 0:
            upstream_stats(&w.c.stats, u.state.slot).retries += 1
        reach = server_dial(w, x, u, b)
        if reach != REACH_FAILED:
            return reach
        if x.up == NULL:
            return REACH_FAILED  # of our own making: another backend would not help
        server_failed(w, x, x.up)


cdef server_t* upstream_kept(web_t* w, exchange_t* x, upstream_t* u) noexcept nogil:
    cdef keepset_t* k
    cdef server_t* s

    if u.state.slot >= w.keepset_room:
        return NULL
    k = &w.keepsets[u.state.slot]
    while k.newest != SLAB_NONE:
        s = server_at(w, k.newest)
        if s.stamp == u.stamp and (
            upstream_repeats(x) or transport_idle_ok(&s.link)
        ):
            keepset_take(w, s)
            return s
        server_close(w, s, False)
    return NULL


cdef REACH upstream_reach(web_t* w, exchange_t* x, bint fresh) noexcept nogil:
    cdef upstream_t* u = upstream_of(w, x)
    cdef server_t* s = NULL

    if u == NULL:
        return REACH_GONE
    if not fresh:
        s = upstream_kept(w, x, u)
    if s == NULL:
        return upstream_dial(w, x, u)
    x.up = s
    s.exchange = x
    upstream_stats(&w.c.stats, u.state.slot).reused += 1
    return REACH_READY


# The TCP connection stands, or so we hope.
cdef REACH server_connected(
    web_t* w, server_t* s, const upstream_t* u, const backend_t* b
) noexcept nogil:
    cdef int failed

    s.link.writable = 1
    s.link.readable = 1
    if u.tls == NULL:
        return server_ready(w, s)
    s.state = SV_HANDSHAKE
    failed = transport_start_client(
        &s.link, u.tls[w.c.worker], &w.buffers, u.server_name,
        tls_session(u.tls[w.c.worker]),
    )
    if failed < 0:
        snprintf(w.why, sizeof(w.why), b"tls: no memory")
        return REACH_FAILED
    if b != NULL and b.path != NULL:
        transport_heed_letters(&s.link)
    return server_handshake(w, s)


cdef REACH server_handshake(web_t* w, server_t* s) noexcept nogil:
    cdef int done = transport_handshake(&s.link)
    cdef size_t used

    if done == 1:
        if transport_resumed(&s.link):
            upstream_stats(&w.c.stats, s.upstream.slot).resumed += 1
        return server_ready(w, s)
    if done == -EAGAIN:
        return REACH_WAIT
    if done == -EBADMSG:
        transport_excuse(&s.link, w.why, sizeof(w.why))
        return REACH_FAILED
    snprintf(w.why, sizeof(w.why), b"tls: ")
    used = strlen(w.why)
    if done == -EPROTO:
        transport_why(&s.link, w.why + used, sizeof(w.why) - used)
    else:
        error_text(-done, w.why + used, sizeof(w.why) - used)
    return REACH_FAILED


cdef REACH server_ready(web_t* w, server_t* s) noexcept nogil:
    dial_note_success(w.c, s.backend, s.began_us)
    timer_disarm(&s.timer)
    s.state = SV_BUSY
    return REACH_READY


# One step of a connection that is being made, without another try.
cdef REACH server_step(web_t* w, server_t* s, upstream_t* u) noexcept nogil:
    cdef backend_t* b = backend_of(w, u, s)
    cdef int error = 0
    cdef socklen_t size = sizeof(error)

    if s.state == SV_CONNECTING:
        getsockopt(s.link.fd, SOL_SOCKET, SO_ERROR, &error, &size)
        if error != 0:
            if b != NULL:
                say_dial(w, b, b"connect: ", error)
            return REACH_FAILED
        return server_connected(w, s, u, b)
    s.link.readable = 1
    s.link.writable = 1
    return server_handshake(w, s)


# The attempt failed, for the reason in w.why: go on with another backend.
cdef REACH upstream_next(
    web_t* w, exchange_t* x, upstream_t* u, REACH failed
) noexcept nogil:
    cdef REACH reach

    server_failed(w, x, x.up)
    reach = upstream_dial(w, x, u)
    return failed if reach == REACH_FAILED else reach


cdef REACH upstream_go_on(web_t* w, server_t* s) noexcept nogil:
    cdef exchange_t* x = s.exchange
    cdef upstream_t* u = upstream_of(w, x)
    cdef REACH reach

    if u == NULL:
        return REACH_GONE
    reach = server_step(w, s, u)
    return upstream_next(w, x, u, reach) if reach == REACH_FAILED else reach


cdef REACH upstream_late(web_t* w, server_t* s) noexcept nogil:
    cdef exchange_t* x = s.exchange
    cdef upstream_t* u = upstream_of(w, x)
    cdef backend_t* b

    if u == NULL:
        return REACH_GONE
    b = backend_of(w, u, s)
    if s.state == SV_HANDSHAKE:
        snprintf(w.why, sizeof(w.why), b"net/http: TLS handshake timeout")
    elif b != NULL:
        say_dial(w, b, b"i/o timeout", 0)
    return upstream_next(w, x, u, REACH_TIMEOUT)
