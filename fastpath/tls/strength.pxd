# What a handshake may cost and how strong it is: groups, cipher suites, versions; and
# what a peer may send besides data.
from fastpath.tls.openssl cimport SSL_CTX

# As a ServerTls or ClientTls says. Raises TableError.
cdef int strength_set(SSL_CTX* c, object spec, bint is_server) except -1

# Count the records that bring no data, see wire_flooded.
cdef void strength_watch(SSL_CTX* c) noexcept nogil
