"""When a worker lets bytes gather before it looks for more.

A wake-up costs as much as moving 50 KiB, to the sender of the bytes, too. After a turn
that moved streams and nothing else, the worker sleeps for a moment, as network cards
coalesce interrupts; a new client or request waits that much longer at most.
"""

from fastpath.base.linux.clock cimport sleep_ns
from fastpath.base.mailbox cimport mailbox_depth
from fastpath.base.stats cimport stats_t

cdef enum:
    # Spliced in a turn, or streamed in a millisecond: less is not worth it.
    COALESCE_BYTES = 131072
    COALESCE_NS = 250000  # at 1 GB/s 250 KB gather, which every receive buffer holds


cdef uint64_t coalesce_others(const worker_t* w) noexcept nogil:
    cdef const stats_t* s = &w.context.stats
    return s.copied - s.streamed + s.accepted + s.heads + w.flows.moved


# Judged by the millisecond: a peer that writes small records wakes us for each.
cdef bint coalesce_streams(worker_t* w) noexcept nogil:
    cdef uint64_t took_ms = w.context.now_ms - w.streamed_ms

    if took_ms > 0:
        w.streaming = w.context.stats.streamed - w.streamed >= took_ms * COALESCE_BYTES
        w.streamed_ms = w.context.now_ms
        w.streamed = w.context.stats.streamed
    return w.streaming


cdef void coalesce(
    worker_t* w, uint64_t spliced, uint64_t streamed, uint64_t other
) noexcept nogil:
    cdef bint streams = coalesce_streams(w) and w.context.stats.streamed > streamed

    if (
        (streams or w.context.stats.spliced - spliced >= COALESCE_BYTES)
        and coalesce_others(w) == other
        and w.context.run.first == NULL
        and mailbox_depth(&w.mailbox) == 0
    ):
        w.context.stats.coalesced += 1
        sleep_ns(COALESCE_NS)
