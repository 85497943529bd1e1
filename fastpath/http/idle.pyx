"""Idle upstream connections, the last used first, so that those not needed expire.

An idle connection belongs to one upstream of one table: it is used again only for an
upstream with the same stamp, that is, with the same TLS and the same names.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp

from fastpath.base.addr cimport addr_t
from fastpath.base.linux.atomic cimport sub_u32
from fastpath.base.slab cimport slab_count, slab_give
from fastpath.base.spill cimport spill_put
from fastpath.base.timer cimport timer_arm, timer_disarm
from fastpath.http.body cimport pending_drop
from fastpath.http.state cimport UPCONN_BUSY, UPCONN_IDLE, idle_set_t
from fastpath.tls.transport cimport transport_close, transport_idle_ok


cdef enum:
    LOOKS_MOST = 64   # at connections to other addresses, before one is made


# ---- Sets: doubly linked, so that one that ends amid its set is taken out at once.

cdef void idle_unlink(conns_t* w, upconn_t* u) noexcept nogil:
    cdef idle_set_t* set = &w.idle_sets[u.upstream.slot]

    if u.newer == NULL:
        set.newest = u.older
    else:
        u.newer.older = u.older
    if u.older == NULL:
        set.oldest = u.newer
    else:
        u.older.newer = u.newer
    set.count -= 1
    u.state = UPCONN_BUSY


cdef void idle_link(conns_t* w, upconn_t* u) noexcept nogil:
    cdef idle_set_t* set = &w.idle_sets[u.upstream.slot]

    u.state = UPCONN_IDLE
    u.newer = NULL
    u.older = set.newest
    if set.newest == NULL:
        set.oldest = u
    else:
        set.newest.newer = u
    set.newest = u
    set.count += 1


# Make room for the sets of so many upstreams. False = no memory.
cdef bint idle_make_room(conns_t* w, uint32_t slots) noexcept nogil:
    cdef idle_set_t* sets
    cdef uint32_t i

    # By half as much again: upstreams are added one at a time. Connections do not point
    # into the array, so it may move.
    if slots <= w.idle_room:
        return True
    slots += slots // 2
    sets = <idle_set_t*>realloc(w.idle_sets, slots * sizeof(idle_set_t))
    if sets == NULL:
        return False
    for i in range(w.idle_room, slots):
        sets[i].newest = NULL
        sets[i].oldest = NULL
        sets[i].count = 0
    w.idle_sets = sets
    w.idle_room = slots
    return True


# Whether a connection leads to where the verdict wants to go.
cdef inline bint idle_suits(const upconn_t* u, const verdict_t* verdict) noexcept nogil:
    if verdict.address.family == 0:
        return not u.addressed
    return u.addressed and memcmp(
        &u.address, &verdict.address, sizeof(addr_t)
    ) == 0


cdef upconn_t* idle_take(
    conns_t* w, const upstream_t* v, const verdict_t* verdict, bint unchecked
) noexcept nogil:
    cdef upconn_t* next
    cdef upconn_t* u
    cdef int others = 0

    # From the last used to the oldest. One that does not suit this verdict may suit the
    # next; one that has ended is closed, so that it is looked at once.
    if v.state.slot >= w.idle_room:
        return NULL
    u = w.idle_sets[v.state.slot].newest
    while u != NULL and others < LOOKS_MOST:
        next = u.older
        others += 1
        if idle_suits(u, verdict):
            others = 0
            if u.stamp == v.stamp and (unchecked or transport_idle_ok(&u.link)):
                idle_unlink(w, u)
                return u
            # The peer has ended it, or the upstream's TLS or names have changed.
            upconn_close(w, u, False)
        u = next
    return NULL


# ---- The end of a connection, or of its use.

cdef void upconn_close(conns_t* w, upconn_t* u, bint reset) noexcept nogil:
    # In order: out of its set; counters of the backend; the socket; at last the count
    # that lets Python give the upstream's slot away.
    if u.state == UPCONN_IDLE:
        idle_unlink(w, u)
    timer_disarm(&u.timer)
    if u.backend != NULL:
        # Before the close, so that a peer that saw it also sees the counter.
        sub_u32(&u.backend.active, 1)
        u.backend = NULL
    transport_close(&u.link, reset)
    if u.input != NULL:
        spill_put(&w.c.mover, u.input)
        u.input = NULL
    # The last touch: Python may give the slot to another upstream.
    sub_u32(&u.upstream.active, 1)
    slab_give(&w.upconns, u)


cdef void upconn_leave(conns_t* w, exchange_t* x, bint reset) noexcept nogil:
    cdef upconn_t* u = x.up

    if u == NULL:
        return
    # What waits for this connection must not be sent on the next one.
    x.up = NULL
    u.exchange = NULL
    pending_drop(&w.c.mover, &x.to_up)
    upconn_close(w, u, reset)


cdef void upconn_keep(conns_t* w, exchange_t* x) noexcept nogil:
    cdef upconn_t* u = x.up
    cdef const upstream_t* v = upstream_in(w, u.upstream.slot, u.stamp)

    # Close it if its upstream has changed, the peer has ended it or none is to be kept;
    # otherwise make it the newest of its set.
    x.up = NULL
    u.exchange = NULL
    if v == NULL or u.link.end.rdhup_seen or (
        v.keepalive == 0 or not idle_make_room(w, v.state.slot + 1)
    ) or (
        # The last read was full. What it left in the socket brings no event, and would
        # be taken for the response to the next request.
        u.link.end.readable and not transport_idle_ok(&u.link)
    ):
        upconn_close(w, u, False)
        return
    # The oldest makes room, not this one: otherwise connections to addresses that no
    # verdict names any more would fill the set until they expire.
    if w.idle_sets[v.state.slot].count >= v.keepalive:
        upconn_close(w, w.idle_sets[v.state.slot].oldest, False)
    u.used = 1
    idle_link(w, u)
    u.idle_ms = w.c.now_ms
    # The timer is not moved at each use: idle_timer looks at idle_ms when it fires.
    if u.timer.prev == NULL:
        timer_arm(&w.c.wheel, &u.timer, w.c.now_ms + v.keepalive_ms)


# ---- What the worker tells of an idle connection.

cdef void idle_event(conns_t* w, upconn_t* u) noexcept nogil:
    # Usually a FIN. A session ticket, which TLS 1.3 servers send at any time, is no
    # reason to close; any other byte is, as no request is open that it could answer.
    if not transport_idle_ok(&u.link):
        upconn_close(w, u, False)


cdef void idle_timer(conns_t* w, upconn_t* u) noexcept nogil:
    cdef const upstream_t* v = upstream_in(w, u.upstream.slot, u.stamp)
    cdef uint64_t until_ms

    if u.state != UPCONN_IDLE:
        return  # upconn_keep arms it again
    until_ms = u.idle_ms + (v.keepalive_ms if v != NULL else 0)
    if until_ms <= w.c.now_ms:
        upconn_close(w, u, False)
    else:
        timer_arm(&w.c.wheel, &u.timer, until_ms)


# ---- Tables.

cdef void idle_sweep(conns_t* w) noexcept nogil:
    cdef upconn_t* u
    cdef uint32_t i

    # Of the others upconn_keep finds out when their exchange has ended.
    for i in range(slab_count(&w.upconns)):
        u = upconn_at(w, i)
        if u.slot.live and u.state == UPCONN_IDLE and (
            upstream_in(w, u.upstream.slot, u.stamp) == NULL
        ):
            upconn_close(w, u, False)


cdef void idle_fini(conns_t* w) noexcept nogil:
    cdef upconn_t* u
    cdef uint32_t i

    for i in range(slab_count(&w.upconns)):
        u = upconn_at(w, i)
        if u.slot.live:
            upconn_close(w, u, True)
    free(w.idle_sets)
    w.idle_sets = NULL
    w.idle_room = 0
