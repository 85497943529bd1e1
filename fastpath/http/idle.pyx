"""Idle upstream connections, the last used first: what is not needed grows old."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport realloc

from fastpath.base.linux.atomic cimport sub_u32
from fastpath.base.slab cimport SLAB_NONE, slab_count, slab_give
from fastpath.base.spill cimport spill_put
from fastpath.base.timer cimport timer_arm, timer_disarm
from fastpath.http.body cimport pending_drop
from fastpath.http.state cimport UPCONN_BUSY, UPCONN_IDLE, idle_set_t
from fastpath.table.table cimport table_vip, vip_t
from fastpath.tls.transport cimport transport_close, transport_idle_ok


cdef void idle_take(conns_t* w, upconn_t* s) noexcept nogil:
    cdef idle_set_t* k = &w.idle_sets[s.upstream.slot]

    if s.newer == SLAB_NONE:
        k.newest = s.older
    else:
        upconn_at(w, s.newer).older = s.older
    if s.older == SLAB_NONE:
        k.oldest = s.newer
    else:
        upconn_at(w, s.older).newer = s.newer
    k.count -= 1
    s.state = UPCONN_BUSY


cdef void idle_put(conns_t* w, upconn_t* s) noexcept nogil:
    cdef idle_set_t* k = &w.idle_sets[s.upstream.slot]

    s.state = UPCONN_IDLE
    s.newer = SLAB_NONE
    s.older = k.newest
    if k.newest == SLAB_NONE:
        k.oldest = s.slot.index
    else:
        upconn_at(w, k.newest).newer = s.slot.index
    k.newest = s.slot.index
    k.count += 1


cdef void upconn_close(conns_t* w, upconn_t* s, bint reset) noexcept nogil:
    if s.state == UPCONN_IDLE:
        idle_take(w, s)
    timer_disarm(&s.timer)
    if s.backend != NULL:  # first: who sees the close finds it in the counters
        sub_u32(&s.backend.active, 1)
        s.backend = NULL
    transport_close(&s.link, reset)
    if s.input != NULL:
        spill_put(&w.c.mover, s.input)
        s.input = NULL
    # The last touch: Python may give the slot to another upstream.
    sub_u32(&s.upstream.active, 1)
    slab_give(&w.upconns, s)


cdef void exchange_leave_upconn(conns_t* w, exchange_t* x, bint reset) noexcept nogil:
    cdef upconn_t* s = x.up

    if s == NULL:
        return
    x.up = NULL
    s.exchange = NULL
    pending_drop(&w.c.mover, &x.to_up)
    upconn_close(w, s, reset)


cdef void exchange_keep_upconn(conns_t* w, exchange_t* x) noexcept nogil:
    cdef upconn_t* s = x.up
    cdef vip_t* v = table_vip(w.c, s.upstream.slot)
    cdef uint64_t until_ms

    x.up = NULL
    s.exchange = NULL
    if v == NULL or v.uplink == NULL or v.uplink.stamp != s.stamp or (
        s.link.end.rdhup_seen
    ) or (
        w.idle_sets[v.state.slot].count >= v.uplink.keepalive
    ) or (
        # The last read was full. What it left brings no event, and would be taken for
        # the response to whatever is asked next.
        s.link.end.readable and not transport_idle_ok(&s.link)
    ):
        upconn_close(w, s, False)
        return
    s.used = 1
    idle_put(w, s)
    s.idle_ms = w.c.now_ms
    # Not moved at each use: it looks at idle_ms when it fires.
    if s.timer.prev == NULL:
        until_ms = w.c.now_ms + v.uplink.keepalive_ms
        timer_arm(&w.c.wheel, &s.timer, until_ms)


cdef void idle_event(conns_t* w, upconn_t* s) noexcept nogil:
    if not transport_idle_ok(&s.link):
        upconn_close(w, s, False)


cdef void idle_timer(conns_t* w, upconn_t* s) noexcept nogil:
    cdef vip_t* v = table_vip(w.c, s.upstream.slot)
    cdef uint64_t until_ms

    if s.state != UPCONN_IDLE:
        return  # armed again when it becomes idle
    until_ms = s.idle_ms + (v.uplink.keepalive_ms if v != NULL and v.uplink else 0)
    if until_ms <= w.c.now_ms:
        upconn_close(w, s, False)
    else:
        timer_arm(&w.c.wheel, &s.timer, until_ms)


cdef void idle_sweep(conns_t* w) noexcept nogil:
    cdef vip_t* v
    cdef upconn_t* s
    cdef uint32_t i

    for i in range(slab_count(&w.upconns)):
        s = upconn_at(w, i)
        if not s.slot.live or s.state != UPCONN_IDLE:
            continue
        v = table_vip(w.c, s.upstream.slot)
        if v == NULL or v.uplink == NULL or v.uplink.stamp != s.stamp:
            upconn_close(w, s, False)


cdef void upconns_fini(conns_t* w) noexcept nogil:
    cdef upconn_t* s
    cdef uint32_t i

    for i in range(slab_count(&w.upconns)):
        s = upconn_at(w, i)
        if s.slot.live:
            upconn_close(w, s, True)


cdef bint idle_make_room(conns_t* w, uint32_t slots) noexcept nogil:
    cdef idle_set_t* sets
    cdef uint32_t i

    if slots <= w.idle_room:
        return True
    sets = <idle_set_t*>realloc(w.idle_sets, slots * sizeof(idle_set_t))
    if sets == NULL:
        return False
    for i in range(w.idle_room, slots):
        sets[i].newest = SLAB_NONE
        sets[i].oldest = SLAB_NONE
        sets[i].count = 0
    w.idle_sets = sets
    w.idle_room = slots
    return True
