# Bytes in memory: memrchr(3), memmem(3), endian(3), and the number of zero bits below a
# set one.
from libc.stdint cimport uint64_t

cdef extern from "<string.h>" nogil:
    const void* memrchr(const void* bytes, int byte, size_t size)
    const void* memmem(
        const void* bytes, size_t size, const void* word, size_t word_size
    )

cdef extern from "<endian.h>" nogil:
    uint64_t le64toh(uint64_t word)

cdef extern from * nogil:
    int ctz64 "__builtin_ctzll"(uint64_t bits)
