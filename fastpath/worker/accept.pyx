"""Accepting: how many at once, which worker serves them, and what happens when
descriptors run out. The only place where one worker gives work to another."""

from libc.errno cimport EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM
from libc.stdint cimport uint64_t

from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_refuse
from fastpath.base.linux.atomic cimport acquire_ptr, load_u64
from fastpath.base.linux.file cimport (
    EPOLLEXCLUSIVE,
    EPOLLIN,
    O_CLOEXEC,
    O_RDONLY,
    close,
    open as open_file,
)
from fastpath.base.linux.socket cimport IPPROTO_TCP
from fastpath.base.mailbox cimport LETTER_ADOPT, letter_t, mailbox_depth, mailbox_push
from fastpath.base.poller cimport TAG_LISTENER, poller_add, poller_remove, tag_make
from fastpath.base.socket cimport socket_reset
from fastpath.base.stats cimport DROP_NO_DESCRIPTORS
from fastpath.http.conn cimport conns_retire
from fastpath.http.events cimport conn_open
from fastpath.table.listener cimport VIP_BY_ADDRESS, listener_accept, listener_dialled
from fastpath.table.table cimport SLOT_NONE, table_find, table_t, table_vip, vip_t
from fastpath.tcp.naming cimport naming_open
from fastpath.udp.door cimport door_start, door_stop, door_take, doors_resume
from fastpath.udp.state cimport door_t
from fastpath.worker.fleet cimport ACCEPTS_MOST, CROWD_MOST, PAUSE_MS

cdef enum:
    SHED_MOST = 64      # clients refused at once when descriptors ran out


# The worker that should have the next client.
cdef worker_t* accept_least(worker_t* w) noexcept nogil:
    cdef uint64_t mine = w.context.stats.active
    cdef uint64_t least = mine
    cdef worker_t* chosen = w
    cdef worker_t* other
    cdef uint64_t load
    cdef int i

    for i in range(w.fleet.count):
        other = w.fleet.workers[i]
        if other == w:
            continue
        load = load_u64(&other.context.stats.active) + mailbox_depth(&other.mailbox)
        if load < least:
            least = load
            chosen = other
    # Handing over costs a wake-up: with many relays it must be worth an eighth of them.
    return chosen if mine > least + least // 8 else w


cdef void accept_open(
    worker_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil:
    cdef vip_t* v = table_vip(&w.context, vip)

    if v != NULL and v.http != NULL:
        conn_open(&w.http, fd, vip, client)
    else:
        naming_open(&w.relays, fd, vip, client)


cdef void accept_place(
    worker_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil:
    cdef worker_t* target = w
    cdef letter_t letter

    w.context.stats.accepted += 1
    # Not while a newer table is out: a worker that uses it may not know the vip.
    if w.fleet.count > 1 and acquire_ptr(&w.fleet.table) == w.context.table:
        target = accept_least(w)
    if target != w:
        letter.kind = LETTER_ADOPT
        letter.fd = fd
        letter.slot = vip
        letter.addr = client[0]
        letter.load = NULL
        if mailbox_push(&target.mailbox, &letter) == 0:
            w.context.stats.handed_over += 1
            return
    accept_open(w, fd, vip, client)


# The vip of a client that a listener took. False = it has none, and was reset.
cdef bint accept_find(worker_t* w, listener_t* l, int fd, uint32_t* vip) noexcept nogil:
    cdef addr_t dialled

    vip[0] = SLOT_NONE
    if l.vip != VIP_BY_ADDRESS:
        vip[0] = l.vip
        return True
    if listener_dialled(fd, &dialled) == 0:
        vip[0] = table_find(<table_t*>w.context.table, IPPROTO_TCP, &dialled)
    if vip[0] == SLOT_NONE:
        # Count before closing, as in context_refuse.
        w.context.stats.no_vip += 1
        socket_reset(fd)
        return False
    return True


cdef void accept_pause(worker_t* w, listener_t* l) noexcept nogil:
    l.paused_until_ms = w.context.now_ms + PAUSE_MS
    w.resume_ms = l.paused_until_ms


# Workers may have one socket in common: then a client wakes one of them. What is
# watched like this can be added and removed, not changed. Where epoll has no room
# (max_user_watches) or no memory, clients wait in the socket, and we try again.
cdef void accept_watch(worker_t* w, listener_t* l) noexcept nogil:
    cdef uint64_t tag = tag_make(TAG_LISTENER, l.slot, 0)

    if poller_add(&w.context.poller, l.fd, EPOLLIN | EPOLLEXCLUSIVE, tag) < 0:
        w.context.stats.unwatched += 1
        accept_pause(w, l)


cdef inline bint is_shortage(int failed) noexcept nogil:
    return (
        failed == -EMFILE or failed == -ENFILE
        or failed == -ENOBUFS or failed == -ENOMEM
    )


# Refuse up to `most` waiting clients, for which descriptors or memory ran out. Return
# how many there were.
cdef int accept_refuse(worker_t* w, listener_t* l, int most) noexcept nogil:
    cdef addr_t client
    cdef uint32_t vip = 0
    cdef int refused = 0
    cdef int fd

    while refused < most and w.reserve != -1:
        close(w.reserve)
        fd = listener_accept(l.fd, &client)
        if fd >= 0 and accept_find(w, l, fd, &vip):
            context_refuse(&w.context, fd, vip, DROP_NO_DESCRIPTORS)
        w.reserve = open_file("/dev/null", O_RDONLY | O_CLOEXEC)
        if fd < 0:
            break
        refused += 1
    return refused


# Descriptors or memory ran out: refuse waiting clients, then leave the listener alone
# for a while. Without the reserve they would hang, and epoll would spin.
cdef void accept_shed(worker_t* w, listener_t* l) noexcept nogil:
    accept_refuse(w, l, SHED_MOST)
    poller_remove(&w.context.poller, l.fd)
    accept_pause(w, l)


cdef void accept_some(worker_t* w, listener_t* l) noexcept nogil:
    cdef addr_t client
    cdef uint32_t taken = 0
    cdef uint32_t vip = 0
    cdef int fd

    # As many as there probably are: asking for one more costs a system call.
    while taken < l.batch:
        fd = listener_accept(l.fd, &client)
        if fd == -EAGAIN:
            if taken > 0:
                l.batch = taken
            return
        if is_shortage(fd):
            accept_shed(w, l)
            return
        # Another error is of a client that has gone already.
        if fd >= 0 and accept_find(w, l, fd, &vip):
            accept_place(w, fd, vip, &client)
        taken += 1
    l.batch = l.batch * 2 if l.batch < ACCEPTS_MOST else ACCEPTS_MOST
    accept_more(w, l)


# More clients may wait there. Where many listeners have some, the rest of them wait for
# their next event.
cdef void accept_more(worker_t* w, const listener_t* l) noexcept nogil:
    cdef uint32_t i

    for i in range(w.crowd_count):
        if w.crowd[i] == l.slot:
            return
    if w.crowd_count < CROWD_MOST:
        w.crowd[w.crowd_count] = l.slot
        w.crowd_count += 1


cdef void accept_crowd(worker_t* w) noexcept nogil:
    cdef uint32_t count = w.crowd_count
    cdef uint32_t crowd[CROWD_MOST]
    cdef uint32_t i

    # Each names itself again if it still has more.
    w.crowd_count = 0
    for i in range(count):
        crowd[i] = w.crowd[i]
    for i in range(count):
        if w.listeners[crowd[i]].fd != -1 and not w.listeners[crowd[i]].paused_until_ms:
            accept_some(w, &w.listeners[crowd[i]])


cdef void accept_resume(worker_t* w) noexcept nogil:
    cdef listener_t* l
    cdef uint32_t i

    if w.reserve == -1:
        w.reserve = open_file("/dev/null", O_RDONLY | O_CLOEXEC)
    w.resume_ms = 0
    if doors_resume(&w.flows):
        w.resume_ms = w.context.now_ms + PAUSE_MS
    for i in range(w.listener_room):
        l = &w.listeners[i]
        if l.fd == -1 or l.paused_until_ms == 0:
            continue
        l.paused_until_ms = 0
        accept_watch(w, l)


cdef void accept_take(
    worker_t* w, const listen_change_t* change, int fd
) noexcept nogil:
    cdef listener_t* l = &w.listeners[change.listener]

    if change.udp:
        l.fd = -1
        l.door = door_take(&w.flows, change, fd) if fd != -1 else NULL
        l.starting = 1
        return
    l.fd = fd
    l.slot = change.listener
    l.vip = change.vip
    l.door = NULL
    l.batch = 1
    l.starting = 1
    l.paused_until_ms = 0


cdef void accept_start(worker_t* w, uint32_t slot) noexcept nogil:
    cdef listener_t* l = &w.listeners[slot]

    if (l.fd == -1 and l.door == NULL) or not l.starting:
        return  # stopped by a later table that was taken with it
    l.starting = 0
    if l.door == NULL:
        accept_watch(w, l)
    elif not door_start(&w.flows, <door_t*>l.door):
        w.resume_ms = w.context.now_ms + PAUSE_MS


cdef void accept_stop(worker_t* w, uint32_t slot, bint drains) noexcept nogil:
    cdef listener_t* l = &w.listeners[slot]
    cdef addr_t client
    cdef uint32_t vip = 0
    cdef int fd

    if l.door != NULL:
        door_stop(&w.flows, <door_t*>l.door, drains)
        l.door = NULL
    if l.fd == -1:
        return
    # Clients that the kernel has let in are served, by the table that they came to.
    while True:
        fd = listener_accept(l.fd, &client)
        if is_shortage(fd) and accept_refuse(w, l, SHED_MOST) > 0:
            continue  # closing the socket would reset them, and nobody count it
        if fd < 0:
            break
        if accept_find(w, l, fd, &vip):
            accept_open(w, fd, vip, &client)
    if l.vip != VIP_BY_ADDRESS:
        conns_retire(&w.http, l.vip)
    poller_remove(&w.context.poller, l.fd)
    close(l.fd)
    l.fd = -1
