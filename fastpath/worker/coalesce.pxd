# When a worker lets bytes gather before it looks for more.
from libc.stdint cimport uint64_t
from fastpath.worker.fleet cimport worker_t

# The sum of what was counted of anything but streams.
cdef uint64_t coalesce_others(const worker_t* w) noexcept nogil

# A turn is over. The arguments are stats.spliced, stats.streamed and coalesce_others as
# they were before it.
cdef void coalesce(
    worker_t* w, uint64_t spliced, uint64_t streamed, uint64_t other
) noexcept nogil
