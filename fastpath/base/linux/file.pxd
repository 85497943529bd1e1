# Descriptors, pipes and epoll: splice(2), pipe2(2), epoll(7), eventfd(2).
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    ssize_t read(int fd, void* into, size_t size)
    ssize_t write(int fd, const void* data, size_t size)
    int unlink(const char* path)

cdef extern from "<fcntl.h>" nogil:
    enum:
        O_RDONLY
        O_NONBLOCK
        O_CLOEXEC
        F_DUPFD_CLOEXEC
        F_GETFL
        F_SETFL
        F_SETPIPE_SZ
        F_GETPIPE_SZ
        SPLICE_F_MOVE
        SPLICE_F_NONBLOCK
    int open(const char* path, int flags)
    int fcntl(int fd, int command, ...)
    int pipe2(int* fds, int flags)
    ssize_t splice(
        int source, void* offset_in, int target, void* offset_out,
        size_t size, unsigned int flags,
    )

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLLIN
        EPOLLPRI
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLLRDHUP
        EPOLLET
        EPOLLEXCLUSIVE
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int command, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int size, int timeout_ms)

cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_CLOEXEC
        EFD_NONBLOCK
    int eventfd(unsigned int initial, int flags)
