"""The shared ground of a worker: clock, table, timers, poller, buffers, counters."""

from fastpath.base.linux.clock cimport clock_us
from fastpath.base.poller cimport poller_fini, poller_init
from fastpath.base.socket cimport socket_reset
from fastpath.base.spill cimport mover_fini, mover_init
from fastpath.base.stats cimport stats_fini, stats_init, vip_stats
from fastpath.base.timer cimport wheel_init

cdef enum:
    PIPES_MOST = 128   # per worker; further streams are copied


cdef int context_init(
    context_t* c, uint32_t worker, mailbox_t* notices, size_t pipe_bytes, bint splice
) noexcept nogil:
    cdef uint64_t now_us = clock_us()
    cdef int failed

    c.now_ms = now_us // 1000
    c.worker = worker
    c.notices = notices
    c.seed = now_us * <uint64_t>0x9E3779B97F4A7C15 + worker
    c.poller.fd = -1
    wheel_init(&c.wheel, c.now_ms)
    failed = stats_init(&c.stats)
    if failed == 0:
        failed = poller_init(&c.poller)
    if failed < 0:
        return failed
    return mover_init(&c.mover, &c.stats, pipe_bytes, PIPES_MOST, splice)


cdef void context_fini(context_t* c) noexcept nogil:
    mover_fini(&c.mover)
    poller_fini(&c.poller)
    stats_fini(&c.stats)


cdef void context_refuse(
    context_t* c, int fd, uint32_t vip, DROP reason
) noexcept nogil:
    # Count before closing, so that a client that saw the reset also sees the counter.
    vip_stats(&c.stats, vip).refused[<int>reason] += 1
    socket_reset(fd)
