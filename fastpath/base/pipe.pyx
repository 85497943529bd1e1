"""Kernel pipes as buffers, lent out by a per-worker free list.

A pipe costs two descriptors and, when used, pages of the kernel: a half holds one
only while bytes are inside. Never passes SPLICE_F_MORE: it corks a short write for
200 ms (golang/go#10948, and every relay since that set it).
"""

from libc.errno cimport EINTR, errno
from libc.stdlib cimport free, malloc

from fastpath.base.linux.file cimport (
    F_GETPIPE_SZ,
    F_SETPIPE_SZ,
    O_CLOEXEC,
    O_NONBLOCK,
    SPLICE_F_MOVE,
    SPLICE_F_NONBLOCK,
    close,
    fcntl,
    pipe2,
    splice,
)


cdef enum:
    PIPE_LEAST = 65536  # the kernel's default


cdef void pipe_list_init(pipe_list_t* l, size_t size, int limit) noexcept nogil:
    l.free = NULL
    l.idle = 0
    l.total = 0
    l.keep = 64  # an empty pipe is 10 KiB of slots
    l.limit = limit
    l.size = size


cdef void pipe_destroy(pipe_list_t* l, pipe_t* p) noexcept nogil:
    close(p.rd)
    close(p.wr)
    free(p)
    l.total -= 1


cdef void pipe_list_fini(pipe_list_t* l) noexcept nogil:
    cdef pipe_t* p
    while l.free != NULL:
        p = l.free
        l.free = p.next
        pipe_destroy(l, p)
    l.idle = 0


cdef pipe_t* pipe_open(size_t size) noexcept nogil:
    cdef int fds[2]
    cdef int granted
    cdef pipe_t* p = <pipe_t*>malloc(sizeof(pipe_t))

    if p == NULL:
        return NULL
    if pipe2(fds, O_NONBLOCK | O_CLOEXEC) == -1:
        free(p)
        return NULL
    # The kernel refuses this to unprivileged users beyond 64 MiB for all their pipes;
    # then a pipe has two pages, and copying is faster than that.
    fcntl(fds[1], F_SETPIPE_SZ, <int>size)
    granted = fcntl(fds[1], F_GETPIPE_SZ)
    if granted < PIPE_LEAST and <size_t>granted < size:
        close(fds[0])
        close(fds[1])
        free(p)
        return NULL
    p.rd = fds[0]
    p.wr = fds[1]
    p.used = 0
    p.size = granted
    p.next = NULL
    return p


cdef pipe_t* pipe_get(pipe_list_t* l) noexcept nogil:
    cdef pipe_t* p = l.free

    if p != NULL:
        l.free = p.next
        l.idle -= 1
        p.next = NULL
        return p
    if l.total >= l.limit:
        return NULL
    p = pipe_open(l.size)
    if p != NULL:
        l.total += 1
    return p


cdef void pipe_put(pipe_list_t* l, pipe_t* p) noexcept nogil:
    if p == NULL:
        return
    if p.used > 0 or l.idle >= l.keep:
        pipe_destroy(l, p)
        return
    p.next = l.free
    l.free = p
    l.idle += 1


cdef ssize_t pipe_fill(pipe_t* p, int src, size_t limit) noexcept nogil:
    cdef ssize_t n

    while True:
        n = splice(src, NULL, p.wr, NULL, limit, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if n >= 0:
            p.used += n
            return n
        if errno != EINTR:
            return -errno


cdef ssize_t pipe_flush(pipe_t* p, int dst) noexcept nogil:
    cdef ssize_t n

    while True:
        n = splice(p.rd, NULL, dst, NULL, p.used, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if n >= 0:
            p.used -= n
            return n
        if errno != EINTR:
            return -errno


cdef class PipeList:
    """The free list for tests."""

    cdef pipe_list_t pipes

    def __cinit__(self, size_t size=65536, int limit=4, keep=None):
        pipe_list_init(&self.pipes, size, limit)
        if keep is not None:
            self.pipes.keep = keep

    def __dealloc__(self):
        pipe_list_fini(&self.pipes)

    @property
    def idle(self):
        return self.pipes.idle

    @property
    def total(self):
        return self.pipes.total


cdef class Pipe:
    """A pipe for tests, lent by `pipes` until it is put back or forgotten."""

    cdef PipeList pipes
    cdef pipe_t* pipe

    def __cinit__(self, PipeList pipes=None):
        self.pipes = pipes if pipes is not None else PipeList()
        self.pipe = pipe_get(&self.pipes.pipes)
        if self.pipe == NULL:
            raise BlockingIOError("no pipe to be had")

    def __dealloc__(self):
        if self.pipe != NULL:
            pipe_put(&self.pipes.pipes, self.pipe)

    def put(self):
        pipe_put(&self.pipes.pipes, self.pipe)
        self.pipe = NULL

    def fill(self, int source, size_t limit=65536):
        return _moved(pipe_fill(self.pipe, source, limit))

    def flush(self, int target):
        return _moved(pipe_flush(self.pipe, target))

    @property
    def fds(self):
        return self.pipe.rd, self.pipe.wr

    @property
    def used(self):
        return self.pipe.used

    @property
    def size(self):
        return self.pipe.size


cdef _moved(ssize_t moved):
    if moved < 0:
        raise OSError(-moved, "splice")
    return moved
