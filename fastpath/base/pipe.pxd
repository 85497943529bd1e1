from libc.stdlib cimport free
# Kernel pipes: the buffer of a half that splices.
cdef struct pipe_t:
    int     rd        # owned fd; -1 = not open
    int     wr        # owned fd; -1 = not open
    size_t  used      # bytes inside now
    size_t  size      # bytes, as the kernel granted it
    pipe_t* next      # borrowed; in the free list only

# The unused pipes of one worker. Only empty pipes are kept: what was meant for one
# relay must never reach another.
cdef struct pipe_list_t:
    pipe_t* free      # owned list
    int     idle      # pipes in the list
    int     total     # pipes open, in the list or lent
    int     keep      # most pipes to keep in the list
    int     limit     # most pipes open at once; beyond it relays copy
    size_t  size      # bytes to ask the kernel for

cdef void pipe_list_init(pipe_list_t* l, size_t size, int limit) noexcept nogil
cdef void pipe_list_fini(pipe_list_t* l) noexcept nogil

# Lend an empty pipe, to be given back by pipe_put. NULL = none to be had (limit,
# descriptors, memory): the caller copies instead.
cdef pipe_t* pipe_get(pipe_list_t* l) noexcept nogil

# Take `p` back (NULL is accepted). A pipe that still holds bytes is closed.
cdef void pipe_put(pipe_list_t* l, pipe_t* p) noexcept nogil

# Move up to `limit` bytes from socket `src` into `p` without copying them.
# Return bytes moved, 0 at EOF or what looks like it, or -errno. -EAGAIN with
# p.used > 0 says only "flush first": splice(2) does not tell a dry socket from a
# full pipe.
cdef ssize_t pipe_fill(pipe_t* p, int src, size_t limit) noexcept nogil

# Move the bytes of `p` to socket `dst`. Return bytes moved or -errno.
cdef ssize_t pipe_flush(pipe_t* p, int dst) noexcept nogil
