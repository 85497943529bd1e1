# getrandom(2), glibc 2.25 and musl.
cdef extern from "<sys/random.h>" nogil:
    ssize_t getrandom(void* into, size_t size, unsigned int flags)
