# TLS contexts made of PEM: immutable, counted, one SSL_CTX for each worker, so that
# workers share no lock and no session. A connection keeps its SSL_CTX alive: a context
# may be forgotten, and another take its place, while connections go on.
from fastpath.tls.openssl cimport SSL, SSL_CTX, SSL_SESSION, X509

# The newest session that a server gave on `context`, for transport_start_client; NULL
# if there is none. Lent until the next call into a connection of `context`.
cdef SSL_SESSION* tls_session(SSL_CTX* context) noexcept nogil

# Do not offer that session again: a handshake has failed.
cdef void tls_forget(SSL_CTX* context) noexcept nogil

# The certificate that `ssl` refused because it is for other names; lent, NULL = none.
cdef X509* tls_refused(const SSL* ssl) noexcept nogil

cdef class ClientContext:
    cdef object __weakref__
    cdef readonly object spec        # the ClientTls
    cdef readonly int workers
    cdef SSL_CTX** contexts          # owned, by worker
    cdef const char* name            # server name, for transport_start_client; or NULL
    cdef bytes _name                 # what `name` points into

cdef class ServerContext:
    cdef object __weakref__
    cdef readonly object spec        # the ServerTls
    cdef readonly int workers
    cdef SSL_CTX** contexts          # owned, by worker
