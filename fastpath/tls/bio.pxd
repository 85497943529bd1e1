from fastpath.tls.openssl cimport BIO

cdef enum:
    HELLO_BYTES_MOST = 12288  # a few KB are usual; OpenSSL would take 131 KB
    IDLE_RECORDS_MOST = 32   # records without data, in a row

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

# The peer speaks first, and what it says before we have answered is a ClientHello: no
# more than HELLO_BYTES_MOST are read of it, then reading fails: wire_flooded.
cdef void wire_expect_hello(BIO* b) noexcept nogil

# One more record; True = too many since the last wire_progress. Records without data
# come one by one or a few at a time, unless they are meant to keep us busy.
cdef bint wire_count(BIO* b) noexcept nogil
cdef void wire_progress(BIO* b) noexcept nogil
cdef bint wire_flooded(const BIO* b) noexcept nogil

# Nothing follows for now: send what TCP holds back for it.
cdef void wire_push(BIO* b) noexcept nogil
