"""Upstream connections of one worker.

A kept connection may have been closed by its other side a moment ago. Where the request
can be sent a second time, that is found out by sending it; where it cannot, the socket
is asked first.
"""

from libc.errno cimport EAGAIN, EBADMSG, EINPROGRESS, EMFILE, EPROTO, errno
from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memset, strlen

from fastpath.base.addr cimport addr_is_loopback, addr_t
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
from fastpath.base.stats cimport vip_stats, web_stats
from fastpath.base.timer cimport TIMER_SERVER, timer_arm, timer_disarm
from fastpath.http.keepset cimport keepset_take, server_at, server_close, upstream_leave
from fastpath.http.verdict cimport verdict_t
from fastpath.http.web cimport SV_BUSY, SV_CONNECTING, SV_HANDSHAKE, TRIES_MOST
from fastpath.table.balancer cimport balancer_pick, pick_t
from fastpath.table.dialler cimport dial_note_failure, dial_note_success
from fastpath.table.registry cimport backend_state_t
from fastpath.table.table cimport backend_sockaddr, backend_t, table_vip, uplink_t
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


cdef vip_t* upstream_of(web_t* w, const exchange_t* x) noexcept nogil:
    cdef vip_t* v = table_vip(w.c, x.verdict.upstream)

    if v == NULL or v.uplink == NULL or v.uplink.stamp != x.verdict.stamp:
        return NULL
    return v


# ---- Making connections.

cdef backend_t* upstream_pick(web_t* w, exchange_t* x, vip_t* v) noexcept nogil:
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
    web_t* w, const addr_t* a, const char* path, const char* what, int error
) noexcept nogil:
    cdef char ip[64]
    cdef char why[128]

    why[0] = 0
    if error != 0:
        error_text(error, why, sizeof(why))
    if a.family == AF_INET or a.family == AF_INET6:
        inet_ntop(a.family, a.ip, ip, sizeof(ip))
        snprintf(
            w.why, sizeof(w.why),
            b"dial tcp [%s]:%u: %s%s" if a.family == AF_INET6 else
            b"dial tcp %s:%u: %s%s",
            ip, <unsigned int>a.port, what, why,
        )
    else:
        snprintf(w.why, sizeof(w.why), b"dial unix %s: %s%s", path, what, why)


cdef void server_say(
    web_t* w, const server_t* s, vip_t* v, const char* what, int error
) noexcept nogil:
    cdef const backend_t* b = backend_of(v, s)

    if s.addressed or b != NULL:
        say_dial(w, &s.address, b.path if b != NULL else NULL, what, error)


# The backend did not answer: count it, and remember not to try it again. An address has
# no counters of its own: there are thousands of them.
cdef void server_failed(web_t* w, exchange_t* x, server_t* s) noexcept nogil:
    cdef backend_state_t* b = s.backend

    if s.addressed:
        web_stats(&w.c.stats, s.upstream.slot).unreached += 1
        upstream_leave(w, x, False)
        return
    if x.tries < TRIES_MOST:
        x.tried[x.tries] = b.slot
        x.tries += 1
    dial_note_failure(w.c, table_vip(w.c, s.upstream.slot), b)
    upstream_leave(w, x, False)


cdef server_t* server_new(web_t* w, vip_t* v, backend_t* b, int fd) noexcept nogil:
    cdef server_t* s = <server_t*>slab_take(&w.servers)

    if s == NULL:
        close(fd)
        return NULL
    transport_open(&s.link, fd)
    s.timer.kind = TIMER_SERVER
    s.stamp = v.uplink.stamp
    s.upstream = v.state
    s.backend = b.state
    s.address = b.addr
    s.addressed = b.state == NULL
    add_u32(&v.state.active, 1)
    if b.state != NULL:
        add_u32(&b.state.active, 1)
    s.began_us = clock_us()
    s.state = SV_CONNECTING
    return s


# Start to connect to `b`. REACH_FAILED with x.up NULL = out of descriptors or memory,
# with errno; else as upstream_go_on.
cdef REACH server_dial(web_t* w, exchange_t* x, vip_t* v, backend_t* b) noexcept nogil:
    cdef sockaddr_storage name
    cdef socklen_t size = backend_sockaddr(b, &name)
    cdef int fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    cdef int on = 1
    cdef server_t* s

    x.up = NULL
    if fd == -1:
        say_dial(w, &b.addr, b.path, b"socket: ", errno)
        return REACH_FAILED
    s = server_new(w, v, b, fd)
    if s == NULL:
        return REACH_FAILED
    x.up = s
    s.exchange = x
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on))
    socket_keepalive(fd, KEEPALIVE_S, 0)
    if connect(fd, <sockaddr*>&name, size) == -1 and errno != EINPROGRESS:
        say_dial(w, &b.addr, b.path, b"connect: ", errno)
        return REACH_FAILED
    if poller_add(
        &w.c.poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        tag_make(TAG_SERVER, s.slot.index, s.slot.generation),
    ) < 0:
        say_dial(w, &b.addr, b.path, b"epoll: ", EMFILE)
        return REACH_FAILED
    timer_arm(&w.c.wheel, &s.timer, w.c.now_ms + v.pool.connect_ms)
    # On the same host the handshake has ended when connect(2) returns, or its accept
    # queue is full: only its name tells.
    if not b.loopback or getpeername(fd, <sockaddr*>&name, &size) == -1:
        return REACH_WAIT
    return server_step(w, s, v)


cdef backend_t* backend_of(vip_t* v, const server_t* s) noexcept nogil:
    cdef uint32_t i

    if s.addressed:
        return NULL
    for i in range(v.pool.count):
        if v.pool.backends[i].state == s.backend:
            return &v.pool.backends[i]
    return NULL


# To where the verdict says, and nowhere else.
cdef REACH address_dial(web_t* w, exchange_t* x, vip_t* v) noexcept nogil:
    cdef backend_t here
    cdef REACH reach

    memset(&here, 0, sizeof(here))
    here.addr = x.verdict.address
    here.loopback = addr_is_loopback(&here.addr)
    reach = server_dial(w, x, v, &here)
    if reach == REACH_FAILED and x.up != NULL:
        server_failed(w, x, x.up)
    return reach


cdef REACH upstream_dial(web_t* w, exchange_t* x, vip_t* v) noexcept nogil:
    cdef backend_t* b
    cdef REACH reach

    if x.verdict.address.family != 0:
        return address_dial(w, x, v)
    while True:
        b = upstream_pick(w, x, v)
        if b == NULL:
            return REACH_FAILED if x.tries > 0 else REACH_NO_BACKEND
        if x.tries > 0:
            vip_stats(&w.c.stats, v.state.slot).retries += 1
        reach = server_dial(w, x, v, b)
        if reach != REACH_FAILED:
            return reach
        if x.up == NULL:
            return REACH_FAILED  # of our own making: another backend would not help
        server_failed(w, x, x.up)


# Whether the connection leads to where the verdict wants to go.
cdef inline bint server_suits(const server_t* s, const verdict_t* v) noexcept nogil:
    if v.address.family == 0:
        return not s.addressed
    return s.addressed and memcmp(&s.address, &v.address, sizeof(addr_t)) == 0


cdef server_t* upstream_kept(web_t* w, exchange_t* x, vip_t* v) noexcept nogil:
    cdef uint32_t at = w.keepsets[v.state.slot].newest
    cdef server_t* s

    while at != SLAB_NONE:
        s = server_at(w, at)
        at = s.older
        if not server_suits(s, x.verdict):
            continue
        if s.stamp == v.uplink.stamp and (
            upstream_repeats(x) or transport_idle_ok(&s.link)
        ):
            keepset_take(w, s)
            return s
        server_close(w, s, False)
    return NULL


cdef REACH upstream_reach(web_t* w, exchange_t* x, bint fresh) noexcept nogil:
    cdef vip_t* v = upstream_of(w, x)
    cdef server_t* s = NULL

    if v == NULL:
        return REACH_GONE
    if not fresh:
        s = upstream_kept(w, x, v)
    if s == NULL:
        return upstream_dial(w, x, v)
    x.up = s
    s.exchange = x
    web_stats(&w.c.stats, v.state.slot).reused += 1
    return REACH_READY


# The TCP connection stands, or so we hope.
cdef REACH server_connected(
    web_t* w, server_t* s, const uplink_t* u, const backend_t* b
) noexcept nogil:
    cdef int failed

    s.link.writable = 1
    s.link.readable = 1
    if u.tls == NULL:
        return server_ready(w, s)
    s.state = SV_HANDSHAKE
    # Sessions are kept by upstream: one of an address is not shown to the next one.
    failed = transport_start_client(
        &s.link, u.tls[w.c.worker], &w.buffers, u.server_name,
        NULL if s.addressed else tls_session(u.tls[w.c.worker]),
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
            web_stats(&w.c.stats, s.upstream.slot).resumed += 1
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
    if s.backend != NULL:
        dial_note_success(w.c, s.backend, s.began_us)
    timer_disarm(&s.timer)
    s.state = SV_BUSY
    return REACH_READY


# One step of a connection that is being made, without another try.
cdef REACH server_step(web_t* w, server_t* s, vip_t* v) noexcept nogil:
    cdef backend_t* b = backend_of(v, s)
    cdef int error = 0
    cdef socklen_t size = sizeof(error)

    if s.state == SV_CONNECTING:
        getsockopt(s.link.fd, SOL_SOCKET, SO_ERROR, &error, &size)
        if error != 0:
            server_say(w, s, v, b"connect: ", error)
            return REACH_FAILED
        return server_connected(w, s, v.uplink, b)
    s.link.readable = 1
    s.link.writable = 1
    return server_handshake(w, s)


# The attempt failed, for the reason in w.why: go on with another backend.
cdef REACH upstream_next(
    web_t* w, exchange_t* x, vip_t* v, REACH failed
) noexcept nogil:
    cdef bint addressed = x.up.addressed
    cdef REACH reach

    server_failed(w, x, x.up)
    if addressed:
        return failed
    reach = upstream_dial(w, x, v)
    return failed if reach == REACH_FAILED else reach


cdef REACH upstream_go_on(web_t* w, server_t* s) noexcept nogil:
    cdef exchange_t* x = s.exchange
    cdef vip_t* v = upstream_of(w, x)
    cdef REACH reach

    if v == NULL:
        return REACH_GONE
    reach = server_step(w, s, v)
    return upstream_next(w, x, v, reach) if reach == REACH_FAILED else reach


cdef REACH upstream_late(web_t* w, server_t* s) noexcept nogil:
    cdef exchange_t* x = s.exchange
    cdef vip_t* v = upstream_of(w, x)

    if v == NULL:
        return REACH_GONE
    if s.state == SV_HANDSHAKE:
        snprintf(w.why, sizeof(w.why), b"net/http: TLS handshake timeout")
    else:
        server_say(w, s, v, b"i/o timeout", 0)
    return upstream_next(w, x, v, REACH_TIMEOUT)
