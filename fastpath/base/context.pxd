# What all protocols of one worker share.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.affinity cimport affinity_t
from fastpath.base.mailbox cimport mailbox_t
from fastpath.base.poller cimport poller_t
from fastpath.base.slab cimport run_queue_t
from fastpath.base.spill cimport mover_t
from fastpath.base.stats cimport DROP, stats_t
from fastpath.base.timer cimport wheel_t

cdef struct context_t:
    uint64_t    now_ms       # read once a turn
    void*       table        # table_t*, borrowed until the next quiescent point
    uint64_t    seed         # of random choices
    mailbox_t*  notices      # borrowed; to Python
    affinity_t* affinity     # borrowed; all workers'
    uint32_t    worker       # index of this one
    mover_t     mover
    stats_t     stats
    run_queue_t run          # what had its turn and would go on
    wheel_t     wheel        # timers point into it: a context never moves
    poller_t    poller

# `c` is zeroed. Return 0, or -errno: then context_fini is due all the same.
cdef int context_init(
    context_t* c, uint32_t worker, mailbox_t* notices, size_t pipe_bytes, bint splice
) noexcept nogil
cdef void context_fini(context_t* c) noexcept nogil

# Count and close an accepted client that is not served; it gets a reset.
cdef void context_refuse(
    context_t* c, int fd, uint32_t vip, DROP reason
) noexcept nogil
