from fastpath.openssl cimport BIO

# A BIO on the non-blocking socket `fd`, which stays the caller's. NULL = no memory.
cdef BIO* wire_new(int fd) noexcept nogil
