from fastpath.openssl cimport BIO

# A BIO on the non-blocking socket `fd`, which stays the caller's. NULL = no memory.
cdef BIO* wire_new(int fd) noexcept nogil

# Whether the last read got less than it asked for: that was all there is.
cdef bint wire_dry(const BIO* b) noexcept nogil

# More is written at once behind what is written next: let TCP wait for it.
cdef void wire_more(BIO* b, bint more) noexcept nogil

# Nothing follows for now: send what TCP holds back for it.
cdef void wire_push(BIO* b) noexcept nogil
