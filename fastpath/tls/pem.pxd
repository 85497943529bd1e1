# What is wrong with the PEM is a TableError, in which the PEM is called `what`.
from fastpath.tls.openssl cimport SSL_CTX, X509_STORE

# Why the last call of OpenSSL failed, or raise MemoryError if that was for want of
# memory; then nothing is held against it any more.
cdef str pem_reason()

# Forget all errors of this thread. Return whether want of memory is among them.
cdef bint pem_starved() noexcept

# Present the first certificate of `pem`, with the others as its chain.
cdef int pem_load_chain(SSL_CTX* context, bytes pem, str what) except -1

# Take the key of the certificate that `context` has, which is called `certificate`.
cdef int pem_load_key(
    SSL_CTX* context, bytes pem, str what, str certificate
) except -1

# Trust each certificate of a bundle; with `asked` not NULL, clients of that context
# are told which authorities we trust.
cdef int pem_add_roots(
    X509_STORE* store, bytes pem, str what, SSL_CTX* asked
) except -1

# The roots to trust: a bundle, or if `pem` is None those of this machine. Owned by the
# caller; read it once for all workers, as it may be a lot of ASN.1.
cdef X509_STORE* pem_roots(bytes pem, str what) except NULL
