"""Connecting to backends: what a relay and an upstream connection have in common.

A failed dial costs the client nothing as long as no byte has moved, so the next backend
is tried at once. The caller owns the socket, its timer and its poller tag.
"""

from libc.errno cimport (
    EADDRNOTAVAIL,
    EINPROGRESS,
    EMFILE,
    ENFILE,
    ENOBUFS,
    ENOMEM,
    EPERM,
    errno,
)
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memset
from fastpath.base.addr cimport addr_t
from fastpath.base.affinity cimport AFFINITY_NONE, affinity_find, affinity_keep
from fastpath.base.linux.atomic cimport add_u32, sub_u32
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.linux.file cimport close
from fastpath.base.linux.socket cimport (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    TCP_NODELAY,
    connect,
    inet_ntop,
    sockaddr,
    sockaddr_storage,
    socket,
    socklen_t,
)
from fastpath.base.linux.text cimport error_text
from fastpath.base.mailbox cimport (
    LETTER,
    LETTER_CONNECT_FAILED,
    LETTER_EJECTED,
    LETTER_RECOVERED,
    letter_t,
    mailbox_push,
)
from fastpath.base.socket cimport (
    set_int,
    socket_borrow,
    socket_keepalive,
    socket_lazy_ack,
)
from fastpath.base.stats cimport backend_stats, backend_stats_t, histogram_bucket
from fastpath.table.balancer cimport (
    BACKEND_AS_BEFORE,
    BACKEND_EJECTED,
    BACKEND_RECOVERED,
    VERDICT_ON_BACKEND,
    balancer_failed,
    balancer_pick,
    balancer_succeeded,
    pick_t,
    usable_share,
)
from fastpath.table.block cimport backend_sockaddr

cdef enum:
    KEEPALIVE_S = 30        # TCP probes to an upstream, as kubectl's


cdef void dialler_tell(context_t* c, LETTER kind, uint32_t slot) noexcept nogil:
    cdef letter_t letter
    # Best effort: a worker does not wait for Python, and counts what it lost.
    memset(&letter, 0, sizeof(letter))
    letter.kind = kind
    letter.fd = -1
    letter.slot = slot
    if mailbox_push(c.notices, &letter) < 0:
        c.stats.notices_lost += 1


cdef void dialler_failed(
    context_t* c, dial_t* d, const pool_t* pool, backend_state_t* backend
) noexcept nogil:
    cdef VERDICT_ON_BACKEND verdict = BACKEND_AS_BEFORE

    # In order: do not try it again for this client; count; eject it, if that was one
    # failure too many; tell Python. A pool that has left the table ejects nothing.
    if d.tries < TRIED_MOST:
        d.tried[d.tries] = backend.slot
    d.tries += 1
    backend_stats(&c.stats, backend.slot).failures += 1
    if pool != NULL:
        verdict = balancer_failed(pool, backend, c.now_ms)
    if verdict == BACKEND_EJECTED:
        backend_stats(&c.stats, backend.slot).ejections += 1
        dialler_tell(c, LETTER_EJECTED, backend.slot)
    else:
        dialler_tell(c, LETTER_CONNECT_FAILED, backend.slot)


cdef void dialler_succeeded(
    context_t* c, const dial_t* d, backend_state_t* backend
) noexcept nogil:
    cdef backend_stats_t* stats = backend_stats(&c.stats, backend.slot)
    # Modulo 2**32: right for dials of up to 71 minutes, and connect_ms allows far less.
    cdef uint32_t took_us = <uint32_t>clock_us() - d.began_us

    # The counters are this worker's own; the state is shared, and written only if the
    # backend had failed before.
    stats.connects += 1
    stats.connect_us += took_us
    stats.connects_in[histogram_bucket(took_us)] += 1
    if balancer_succeeded(backend, c.now_ms) == BACKEND_RECOVERED:
        dialler_tell(c, LETTER_RECOVERED, backend.slot)


cdef bint dialler_exhausted(int error) noexcept nogil:
    return error == EMFILE or error == ENFILE or error == ENOMEM or error == ENOBUFS


# In the words of Go's net package, which users and scripts know.
cdef void dialler_say(
    char* why, const backend_t* b, const char* what, int error
) noexcept nogil:
    cdef char ip[64]
    cdef char text[128]

    text[0] = 0  # without an errno `what` says it all: "i/o timeout"
    if error != 0:
        error_text(error, text, sizeof(text))
    if b.addr.family == AF_INET or b.addr.family == AF_INET6:
        inet_ntop(b.addr.family, b.addr.ip, ip, sizeof(ip))
        snprintf(
            why, WHY_BYTES,
            b"dial tcp [%s]:%u: %s%s" if b.addr.family == AF_INET6 else
            b"dial tcp %s:%u: %s%s",
            ip, <unsigned int>b.addr.port, what, text,
        )
    else:
        snprintf(why, WHY_BYTES, b"dial unix %s: %s%s", b.path, what, text)


cdef backend_t* dialler_backend(
    const pool_t* pool, const backend_state_t* backend
) noexcept nogil:
    cdef uint32_t i

    # From the first to the last: once a dial, and little beside its system calls.
    for i in range(pool.count):
        if pool.backends[i].state == backend:
            return &pool.backends[i]
    return NULL


# The backend that a source had last, if it is usable; else another, which it is pinned
# to from now on.
cdef backend_t* dialler_pick_again(
    context_t* c, const pool_t* pool, const pick_t* ask, uint64_t source
) noexcept nogil:
    cdef uint32_t now_s = <uint32_t>(c.now_ms // 1000)
    cdef uint64_t key = affinity_key(pool, source)
    cdef uint32_t slot = affinity_find(c.affinity, key, now_s, pool.affinity_s)
    cdef backend_t* b = NULL
    cdef uint32_t i

    # A pool from first to last, as in dialler_backend. A slot that is another backend's
    # by now is not found in it, or is as good as any.
    if slot != AFFINITY_NONE:
        for i in range(pool.count):
            if pool.backends[i].state.slot == slot:
                b = &pool.backends[i]
                break
    if b == NULL or usable_share(pool, b, ask) == 0:
        b = balancer_pick(pool, ask, &c.seed)
    if b != NULL and affinity_keep(c.affinity, key, b.state.slot, now_s):
        c.stats.unpinned += 1
    return b


# One pin for each source and pool, whichever vip it came by.
cdef uint64_t affinity_key(const pool_t* pool, uint64_t source) noexcept nogil:
    cdef uint64_t z = source ^ (pool.state.slot * <uint64_t>0x9E3779B97F4A7C15)
    # The last steps of splitmix64: every bit of both moves every bit of the key.
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef backend_t* dialler_pick(
    context_t* c, const dial_t* d, const pool_t* pool, const attempt_t* a
) noexcept nogil:
    cdef pick_t ask
    cdef uint32_t i

    # By slot, not by pointer: between two dials of one client the table may change.
    if d.tries >= pool.tries:
        return NULL
    ask.hash = a.hash
    ask.now_ms = c.now_ms
    ask.tried_count = d.tries
    for i in range(d.tries):
        ask.tried[i] = d.tried[i]
    if pool.affinity_s > 0:
        return dialler_pick_again(c, pool, &ask, a.pin)
    return balancer_pick(pool, &ask, &c.seed)


cdef int dialler_connect(dial_t* d, attempt_t* a) noexcept nogil:
    cdef const char* what = b"socket: "
    cdef sockaddr_storage name
    cdef socklen_t size = backend_sockaddr(a.backend, &name)
    cdef int error

    # In order: a socket; its options, before the handshake begins; the clock, for the
    # time that a connect takes; connect(2), which does not wait.
    a.fd = socket(name.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    if a.fd != -1:
        if a.lazy_ack:
            socket_lazy_ack(a.fd)
        if a.kept_alive:
            set_int(a.fd, IPPROTO_TCP, TCP_NODELAY, 1)
            socket_keepalive(a.fd, KEEPALIVE_S, 0)
        if a.source != NULL and socket_borrow(a.fd, a.source) < 0:
            what = b"bind: "
        else:
            d.began_us = <uint32_t>clock_us()
            if connect(a.fd, <sockaddr*>&name, size) != -1 or errno == EINPROGRESS:
                return 0
            what = b"connect: "
    error = errno  # before close(2), which may set another one
    if a.fd != -1:
        close(a.fd)
        a.fd = -1
    # A relay has no text to send: it passes NULL.
    if a.why != NULL:
        dialler_say(a.why, a.backend, what, error)
    return -error


# Whether the backend is to see the client's own address. Not where that is the
# backend's as well: its answers would never come back to us.
cdef bint dialler_borrows(const attempt_t* a) noexcept nogil:
    cdef const addr_t* to = &a.backend.addr

    return (
        a.source != NULL
        and a.source.family == to.family
        and memcmp(a.source.ip, to.ip, sizeof(to.ip)) != 0
    )


# From the client's address if it is to be, and from our own where that does not work:
# no right to, or no port left for this pair.
cdef int dialler_connect_from(
    context_t* c, dial_t* d, attempt_t* a
) noexcept nogil:
    cdef const addr_t* source = a.source
    cdef int failed

    if source == NULL:
        return dialler_connect(d, a)
    if not dialler_borrows(a):
        a.source = NULL
    failed = dialler_connect(d, a)
    if a.source != NULL and (failed == -EPERM or failed == -EADDRNOTAVAIL):
        c.stats.unkept += 1
        a.source = NULL
        failed = dialler_connect(d, a)
    a.source = source  # for the next backend
    return failed


cdef DIAL dialler_next(
    context_t* c, dial_t* d, const pool_t* pool, attempt_t* a
) noexcept nogil:
    cdef backend_state_t* backend
    cdef int failed

    # Until one does not fail at once, or none is left. A backend counts as active from
    # here on, so that `least` and two choices see connections that are being made.
    while True:
        a.backend = dialler_pick(c, d, pool, a)
        if a.backend == NULL:
            return DIAL_NO_BACKEND
        if d.tries > 0:
            a.retries[0] += 1  # also what failed later, by an event or a timer
        backend = a.backend.state
        add_u32(&backend.active, 1)
        failed = dialler_connect_from(c, d, a)
        if failed == 0:
            return DIAL_LOCAL if a.backend.loopback else DIAL_WAIT
        # Our own lack of descriptors or memory says nothing about the backend.
        if not dialler_exhausted(-failed):
            dialler_failed(c, d, pool, backend)
        # Last: Python may give the slot of a backend without relays to another.
        sub_u32(&backend.active, 1)
        if dialler_exhausted(-failed):
            return DIAL_NO_DESCRIPTORS
