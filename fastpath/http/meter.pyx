"""Exchanges and their quotas.

One that is over its rate pauses: nothing of it is read, so that both senders' windows
close, and a timer wakes it. The worker goes on with the others. A pause uses the timer
of the upstream connection, which an exchange under way needs for nothing else.
"""

from fastpath.base.spill cimport TURN_BYTES
from fastpath.base.stats cimport http_stats
from fastpath.base.timer cimport timer_arm
from fastpath.http.quota cimport (
    quota_charge,
    quota_enter,
    quota_hold,
    quota_leave,
    quota_release,
    quota_wait,
)


cdef bint meter_enter(exchange_t* x, quota_t* q) noexcept nogil:
    if x.quota == q:
        return True
    meter_leave(x)
    if q == NULL:
        return True
    if not quota_enter(q):
        return False
    # Held by itself: the verdict may give way to another one.
    quota_hold(q)
    x.quota = q
    return True


cdef void meter_leave(exchange_t* x) noexcept nogil:
    cdef quota_t* q = x.quota

    if q == NULL:
        return
    x.quota = NULL
    quota_leave(q)
    quota_release(q)


cdef bint meter_open(conns_t* w, exchange_t* x) noexcept nogil:
    cdef size_t room = TURN_BYTES
    cdef uint64_t wait_ms = 0

    # A reply of our own comes from no upstream, and is not held back.
    if x.up != NULL:
        wait_ms = quota_wait(x.quota, w.c.now_ms, &room)
    if wait_ms > 0:
        if not x.paused:
            http_stats(&w.c.stats, x.conn.vip.slot).paused += 1
        x.paused = 1
        timer_arm(&w.c.wheel, &x.up.timer, w.c.now_ms + wait_ms)
        return False
    x.paused = 0
    w.c.mover.turn = room
    return True


cdef void meter_close(conns_t* w, exchange_t* x, uint64_t bytes) noexcept nogil:
    w.c.mover.turn = TURN_BYTES
    quota_charge(x.quota, bytes, w.c.now_ms)


cdef void meter_charge(conns_t* w, exchange_t* x, uint64_t bytes) noexcept nogil:
    quota_charge(x.quota, bytes, w.c.now_ms)
