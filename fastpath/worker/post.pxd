# Letters to a worker: from Python, and clients from other workers.
from fastpath.base.mailbox cimport letter_t
from fastpath.worker.fleet cimport worker_t

# Give a worker a letter from Python; its load is the worker's then. 0 or -ENOMEM.
cdef int worker_post(worker_t* w, const letter_t* letter) noexcept nogil

# Serve the clients that other workers handed over.
cdef void worker_mail(worker_t* w) noexcept nogil

# Take what Python has posted, and put it behind what is unread, the oldest first.
cdef void worker_collect(worker_t* w) noexcept nogil

# Free letters that will not be read: the worker's thread has ended.
cdef void worker_unread(worker_t* w) noexcept nogil
