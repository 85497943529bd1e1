from fastpath.openssl cimport BIO

# A BIO on the non-blocking socket `fd`, which stays the caller's. NULL = no memory.
cdef BIO* wire_new(int fd) noexcept nogil

# Whether the last read got less than it asked for: that was all there is.
cdef bint wire_dry(const BIO* b) noexcept nogil
