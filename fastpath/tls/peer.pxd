# The certificate that a client has proved to be its own.
#
# There is one only if the handshake verified it: a server that asks for certificates
# refuses those that its client CA does not answer for, and one that does not ask gets
# none. Of a resumed session it is the one of the handshake that the session began with.
from fastpath.tls.openssl cimport SSL, SSL_CTX

cdef enum:
    FINGERPRINT_BYTES = 32   # SHA-256

# Write the fingerprint of the certificate of the client at the other end of `ssl`,
# which may be NULL. Return its size, 0 = the client has shown none, -1 = there is one
# and OpenSSL failed. It is computed at the first call of a connection.
cdef int peer_fingerprint(SSL* ssl, char* into) noexcept nogil

# Size of that certificate in DER, 0 = none, and of those that the client sent along:
# intermediates, behind it; a resumed session has none. They are written to `into`
# unless that is NULL.
cdef int peer_certificate(const SSL* ssl, unsigned char* into) noexcept nogil

# Whether the certificate of the client holds by `now`, too, which may have taken the
# place of the context that the handshake verified it by. True if it has shown none. It
# is verified once for each context; what a resumed session does not tell, the rest of
# its chain, is missed then.
cdef bint peer_holds(SSL* ssl, SSL_CTX* now) noexcept nogil

# (subject as RFC 4514 writes it, common name, organizations, end of validity in seconds
# since 1970, bytes that it is long) of the first certificate in DER. The last common
# name counts, as Go reads it; organizations stand in their order. Of a subject with a
# name in an unknown alphabet both are empty: half an identity is none.
# ValueError if it is no certificate.
cdef tuple certificate_read(bytes der)
