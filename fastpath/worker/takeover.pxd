# A worker and the tables that Python publishes.
from fastpath.worker.fleet cimport worker_t

# Use the newest table from now on, if it is another one.
cdef void worker_take_table(worker_t* w) noexcept nogil

# Close the descriptors of listeners that this worker was given and never took.
cdef void worker_untaken(worker_t* w) noexcept nogil
