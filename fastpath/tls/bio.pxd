from fastpath.tls.openssl cimport BIO

# A BIO on the non-blocking socket `fd`, which stays the caller's. NULL = no memory.
cdef BIO* wire_new(int fd) noexcept nogil

# Whether the last read since wire_look got less than it asked for: that was all there
# is. An older one says nothing: more may have come since, and its event, too.
cdef bint wire_dry(const BIO* b) noexcept nogil
cdef void wire_look(BIO* b) noexcept nogil

# The peer may write a plain-text reason instead of TLS. If its first byte is printable,
# leave it unread and report plaintext; a read finds nothing then.
cdef void wire_expect_plaintext(BIO* b) noexcept nogil
cdef bint wire_met_plaintext(const BIO* b) noexcept nogil

# More is written at once behind what is written next: let TCP wait for it.
cdef void wire_more(BIO* b, bint more) noexcept nogil

# Nothing follows for now: send what TCP holds back for it.
cdef void wire_push(BIO* b) noexcept nogil
