"""Idle upstream connections, the last used first: what is not needed grows old."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport realloc

from fastpath.base.linux.atomic cimport sub_u32
from fastpath.base.slab cimport SLAB_NONE, slab_count, slab_give
from fastpath.base.spill cimport spill_put
from fastpath.base.timer cimport timer_arm, timer_disarm
from fastpath.http.carry cimport pending_drop
from fastpath.http.web cimport SV_BUSY, SV_IDLE, keepset_t
from fastpath.table.table cimport table_vip, vip_t
from fastpath.tls.transport cimport transport_close, transport_idle_ok


cdef void keepset_take(web_t* w, server_t* s) noexcept nogil:
    cdef keepset_t* k = &w.keepsets[s.upstream.slot]

    if s.newer == SLAB_NONE:
        k.newest = s.older
    else:
        server_at(w, s.newer).older = s.older
    if s.older == SLAB_NONE:
        k.oldest = s.newer
    else:
        server_at(w, s.older).newer = s.newer
    k.count -= 1
    s.state = SV_BUSY


cdef void keepset_put(web_t* w, server_t* s) noexcept nogil:
    cdef keepset_t* k = &w.keepsets[s.upstream.slot]

    s.state = SV_IDLE
    s.newer = SLAB_NONE
    s.older = k.newest
    if k.newest == SLAB_NONE:
        k.oldest = s.slot.index
    else:
        server_at(w, k.newest).newer = s.slot.index
    k.newest = s.slot.index
    k.count += 1


cdef void server_close(web_t* w, server_t* s, bint reset) noexcept nogil:
    if s.state == SV_IDLE:
        keepset_take(w, s)
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
    slab_give(&w.servers, s)


cdef void upstream_leave(web_t* w, exchange_t* x, bint reset) noexcept nogil:
    cdef server_t* s = x.up

    if s == NULL:
        return
    x.up = NULL
    s.exchange = NULL
    pending_drop(&w.c.mover, &x.to_up)
    server_close(w, s, reset)


cdef void upstream_keep(web_t* w, exchange_t* x) noexcept nogil:
    cdef server_t* s = x.up
    cdef vip_t* v = table_vip(w.c, s.upstream.slot)
    cdef uint64_t until_ms

    x.up = NULL
    s.exchange = NULL
    if v == NULL or v.uplink == NULL or v.uplink.stamp != s.stamp or s.link.wary or (
        v.uplink.keepalive == 0
    ) or (
        # The last read was full. What it left brings no event, and would be taken for
        # the response to whatever is asked next.
        s.link.readable and not transport_idle_ok(&s.link)
    ):
        server_close(w, s, False)
        return
    # The oldest makes room: addresses that nobody asks for any more must not keep out
    # the others.
    if w.keepsets[v.state.slot].count >= v.uplink.keepalive:
        server_close(w, server_at(w, w.keepsets[v.state.slot].oldest), False)
    s.used = 1
    keepset_put(w, s)
    s.idle_ms = w.c.now_ms
    # Not moved at each use: it looks at idle_ms when it fires.
    if s.timer.prev == NULL:
        until_ms = w.c.now_ms + v.uplink.keepalive_ms
        timer_arm(&w.c.wheel, &s.timer, until_ms)


cdef void upstream_idle_event(web_t* w, server_t* s) noexcept nogil:
    if not transport_idle_ok(&s.link):
        server_close(w, s, False)


cdef void upstream_idle_timer(web_t* w, server_t* s) noexcept nogil:
    cdef vip_t* v = table_vip(w.c, s.upstream.slot)
    cdef uint64_t until_ms

    if s.state != SV_IDLE:
        return  # armed again when it becomes idle
    until_ms = s.idle_ms + (v.uplink.keepalive_ms if v != NULL and v.uplink else 0)
    if until_ms <= w.c.now_ms:
        server_close(w, s, False)
    else:
        timer_arm(&w.c.wheel, &s.timer, until_ms)


cdef void upstream_sweep(web_t* w) noexcept nogil:
    cdef vip_t* v
    cdef server_t* s
    cdef uint32_t i

    for i in range(slab_count(&w.servers)):
        s = server_at(w, i)
        if not s.slot.live or s.state != SV_IDLE:
            continue
        v = table_vip(w.c, s.upstream.slot)
        if v == NULL or v.uplink == NULL or v.uplink.stamp != s.stamp:
            server_close(w, s, False)


cdef void upstream_fini(web_t* w) noexcept nogil:
    cdef server_t* s
    cdef uint32_t i

    for i in range(slab_count(&w.servers)):
        s = server_at(w, i)
        if s.slot.live:
            server_close(w, s, True)


cdef bint upstream_room(web_t* w, uint32_t slots) noexcept nogil:
    cdef keepset_t* sets
    cdef uint32_t i

    if slots <= w.keepset_room:
        return True
    sets = <keepset_t*>realloc(w.keepsets, slots * sizeof(keepset_t))
    if sets == NULL:
        return False
    for i in range(w.keepset_room, slots):
        sets[i].newest = SLAB_NONE
        sets[i].oldest = SLAB_NONE
        sets[i].count = 0
    w.keepsets = sets
    w.keepset_room = slots
    return True
