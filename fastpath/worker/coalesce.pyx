"""When a worker lets bytes gather before it looks for more.

A wake-up costs as much as moving 50 KiB, to the sender of the bytes, too. Where a turn
moved streams and nothing else, it rests for a moment, as network cards do with
interrupts; a new client or request waits so much longer at most.
"""

from fastpath.base.linux.clock cimport sleep_ns
from fastpath.base.mailbox cimport mailbox_depth
from fastpath.base.slab cimport SLAB_NONE
from fastpath.base.stats cimport stats_t
from fastpath.tcp.relay cimport RELAY_NONE

cdef enum:
    REST_BYTES = 131072  # spliced in a turn, or streamed in a ms: less is not worth it
    REST_NS = 250000     # at 1 GB/s 250 KB gather, which every receive buffer holds


cdef uint64_t worker_others(const worker_t* w) noexcept nogil:
    cdef const stats_t* s = &w.context.stats
    return s.copied - s.streamed + s.accepted + s.heads


# Judged by the millisecond: a peer that writes small records wakes us for each.
cdef bint worker_streams(worker_t* w) noexcept nogil:
    cdef uint64_t took_ms = w.context.now_ms - w.streamed_ms

    if took_ms > 0:
        w.streaming = w.context.stats.streamed - w.streamed >= took_ms * REST_BYTES
        w.streamed_ms = w.context.now_ms
        w.streamed = w.context.stats.streamed
    return w.streaming


cdef void worker_rest(
    worker_t* w, uint64_t spliced, uint64_t streamed, uint64_t other
) noexcept nogil:
    cdef bint streams = worker_streams(w) and w.context.stats.streamed > streamed

    if (
        (streams or w.context.stats.spliced - spliced >= REST_BYTES)
        and worker_others(w) == other
        and w.relays.run_first == RELAY_NONE
        and w.web.run_first == SLAB_NONE
        and mailbox_depth(&w.mailbox) == 0
    ):
        w.context.stats.rests += 1
        sleep_ns(REST_NS)
