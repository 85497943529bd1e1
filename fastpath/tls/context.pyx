"""TLS contexts: what Python says (fastpath.tlsspec) as what OpenSSL works with.

All that can be wrong with a certificate, a key or a bundle is found here, when a
context is made, and is a TableError that says which of them it is. What a connection
needs from its context later (protocols, other certificates, the newest session) hangs
on the SSL_CTX itself, which lives as long as its last connection.
"""

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from fastpath.tls.openssl cimport (
    CRYPTO_EX_DATA, OPENSSL_NPN_NEGOTIATED, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
    SSL_MODE_ENABLE_PARTIAL_WRITE, SSL_OP_NO_RENEGOTIATION, SSL_SESS_CACHE_CLIENT,
    SSL_SESS_CACHE_NO_INTERNAL, SSL_SESS_CACHE_OFF, SSL_TLSEXT_ERR_ALERT_FATAL,
    SSL_TLSEXT_ERR_NOACK, SSL_TLSEXT_ERR_OK, SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    SSL_VERIFY_PEER, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, X509_STORE, X509_STORE_CTX,
    X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH,
    X509_V_FLAG_PARTIAL_CHAIN, OPENSSL_cleanse, SSL_CTX_free, SSL_CTX_get0_param,
    SSL_CTX_get_cert_store, SSL_CTX_get_ex_data, SSL_CTX_get_ex_new_index,
    SSL_CTX_get_tlsext_ticket_keys, SSL_CTX_new, SSL_CTX_sess_set_new_cb,
    SSL_CTX_set1_cert_store, SSL_CTX_set_alpn_protos, SSL_CTX_set_alpn_select_cb,
    SSL_CTX_set_default_read_buffer_len, SSL_CTX_set_ex_data, SSL_CTX_set_mode,
    SSL_CTX_set_options, SSL_CTX_set_read_ahead, SSL_CTX_set_session_cache_mode,
    SSL_CTX_set_session_id_context, SSL_CTX_set_tlsext_servername_callback,
    SSL_CTX_set_tlsext_ticket_keys, SSL_CTX_set_verify, SSL_SESSION_dup,
    SSL_SESSION_free, SSL_get_SSL_CTX, SSL_get_ex_data,
    SSL_get_ex_data_X509_STORE_CTX_idx, SSL_get_ex_new_index, SSL_get_servername,
    SSL_select_next_proto, SSL_set_SSL_CTX, SSL_set_ex_data,
    TLSEXT_NAMETYPE_host_name, TLS_client_method, TLS_server_method,
    X509_STORE_CTX_get0_cert, X509_STORE_CTX_get_error, X509_STORE_CTX_get_ex_data,
    X509_STORE_free, X509_VERIFY_PARAM_set_flags, X509_VERIFY_PARAM_set_hostflags,
    X509_free, X509_up_ref,
)
from fastpath.tls.names cimport names_find, names_free, names_init, names_t
from fastpath.tls.pem cimport (
    pem_add_roots, pem_load_chain, pem_load_key, pem_reason, pem_roots,
)
from fastpath.tls.strength cimport strength_set, strength_watch

from fastpath.api.errors import TableError
from fastpath.api.tlsspec import ClientTls, ServerTls

cdef enum:
    TICKET_KEYS_MOST = 256     # bytes; 80 in OpenSSL 3
    READ_AHEAD_BYTES = 66_560  # four records of a stream, and what belongs to them


# What hangs on an SSL_CTX and is freed with it.
cdef struct annex_t:
    SSL_SESSION* session      # owned, a client's; its worker alone reads and writes it
    SSL_CTX** others          # owned, and each in it: a server's other certificates
    int count                 # of them
    names_t names             # of all; 0 = this context, 1 = the first of others
    unsigned char* protocols  # owned, a server's, as ALPN writes them; or NULL
    unsigned int size         # of them


cdef void annex_free(
    void* parent, void* value, CRYPTO_EX_DATA* data, int index, long l, void* p
) noexcept nogil:
    cdef annex_t* a = <annex_t*>value
    cdef int i

    if a == NULL:
        return  # not a context of ours
    SSL_SESSION_free(a.session)
    for i in range(a.count):
        SSL_CTX_free(a.others[i])
    free(a.others)
    names_free(&a.names)
    free(a.protocols)
    free(a)


cdef void refused_free(
    void* parent, void* value, CRYPTO_EX_DATA* data, int index, long l, void* p
) noexcept nogil:
    X509_free(<X509*>value)


# Against rule 3, and constants from here on: OpenSSL hands such numbers out once for
# the process.
cdef int ANNEX = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, annex_free)
cdef int REFUSED = SSL_get_ex_new_index(0, NULL, NULL, NULL, refused_free)


cdef inline annex_t* annex_of(const SSL_CTX* context) noexcept nogil:
    return <annex_t*>SSL_CTX_get_ex_data(context, ANNEX)


cdef SSL_SESSION* tls_session(SSL_CTX* context) noexcept nogil:
    return annex_of(context).session


cdef void tls_forget(SSL_CTX* context) noexcept nogil:
    cdef annex_t* a = annex_of(context)

    SSL_SESSION_free(a.session)
    a.session = NULL


cdef X509* tls_refused(const SSL* ssl) noexcept nogil:
    return <X509*>SSL_get_ex_data(ssl, REFUSED)


# What OpenSSL asks while it shakes hands.

cdef int on_new_session(SSL* ssl, SSL_SESSION* session) noexcept nogil:
    cdef annex_t* a = annex_of(SSL_get_SSL_CTX(ssl))
    # A copy: OpenSSL spoils the connection's own one if no close_notify ends it.
    cdef SSL_SESSION* copy = SSL_SESSION_dup(session)

    if copy != NULL:
        SSL_SESSION_free(a.session)
        a.session = copy
    return 0  # the reference that was offered is not kept


cdef int on_verify(int fine, X509_STORE_CTX* x) noexcept nogil:
    cdef SSL* ssl
    cdef X509* certificate
    cdef int error

    if fine:
        return 1
    error = X509_STORE_CTX_get_error(x)
    if error == X509_V_ERR_HOSTNAME_MISMATCH or error == X509_V_ERR_IP_ADDRESS_MISMATCH:
        # OpenSSL drops what it refuses: keep it, for transport_why to say its names.
        ssl = <SSL*>X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx())
        certificate = X509_STORE_CTX_get0_cert(x)
        X509_free(tls_refused(ssl))
        X509_up_ref(certificate)
        SSL_set_ex_data(ssl, REFUSED, certificate)
    return 0


cdef int on_server_name(SSL* ssl, int* alert, void* p) noexcept nogil:
    cdef const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)
    cdef annex_t* a = annex_of(SSL_get_SSL_CTX(ssl))
    cdef int chosen

    if name == NULL:
        return SSL_TLSEXT_ERR_NOACK
    if a.names.list == NULL:
        return SSL_TLSEXT_ERR_OK  # was chosen already: this is a second ClientHello
    chosen = names_find(&a.names, name)
    if chosen < 0:
        return SSL_TLSEXT_ERR_NOACK  # go on with the first one: RFC 6066 3
    if chosen > 0:
        SSL_set_SSL_CTX(ssl, a.others[chosen - 1])
    return SSL_TLSEXT_ERR_OK


cdef int on_protocols(
    SSL* ssl, const unsigned char** chosen, unsigned char* size,
    const unsigned char* offered, unsigned int offered_size, void* p,
) noexcept nogil:
    cdef annex_t* a = annex_of(SSL_get_SSL_CTX(ssl))
    cdef unsigned char* ours

    if SSL_select_next_proto(
        &ours, size, a.protocols, a.size, offered, offered_size
    ) != OPENSSL_NPN_NEGOTIATED:
        return SSL_TLSEXT_ERR_ALERT_FATAL  # RFC 7301 3.2
    chosen[0] = ours
    return SSL_TLSEXT_ERR_OK


# What both kinds of contexts have. Owned by the caller.
cdef SSL_CTX* context_new(object spec, bint is_server) except NULL:
    cdef SSL_CTX* c = SSL_CTX_new(
        TLS_server_method() if is_server else TLS_client_method()
    )
    cdef annex_t* a = <annex_t*>calloc(1, sizeof(annex_t))

    if c == NULL or a == NULL or SSL_CTX_set_ex_data(c, ANNEX, a) != 1:
        SSL_CTX_free(c)
        free(a)
        raise TableError(f"TLS: {pem_reason()}")
    # A write may take a part; the rest may be offered at another address in memory.
    SSL_CTX_set_mode(
        c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
    )
    # One recv(2) for header and body of a record, and for whatever follows it.
    SSL_CTX_set_read_ahead(c, 1)
    SSL_CTX_set_default_read_buffer_len(c, READ_AHEAD_BYTES)
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION)
    strength_watch(c)
    try:
        strength_set(c, spec, is_server)
    except BaseException:
        SSL_CTX_free(c)
        raise
    X509_VERIFY_PARAM_set_hostflags(
        SSL_CTX_get0_param(c),
        # As Go does, for which clusters make their certificates: the subject is no
        # host name, and a star stands for one label.
        X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS,
    )
    # As in Go, any certificate of the bundle is a root, self-signed or not.
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(c), X509_V_FLAG_PARTIAL_CHAIN)
    return c


cdef void contexts_free(SSL_CTX** contexts, int workers) noexcept:
    cdef int i

    if contexts != NULL:
        for i in range(workers):
            SSL_CTX_free(contexts[i])
    free(contexts)


cdef SSL_CTX** contexts_new(object spec, object kind, int workers) except NULL:
    cdef SSL_CTX** contexts

    if not isinstance(spec, kind):
        raise TableError(f"{type(spec).__name__} is not a {kind.__name__}")
    if workers < 1:
        raise TableError(f"TLS for {workers} workers")
    contexts = <SSL_CTX**>calloc(workers, sizeof(SSL_CTX*))
    if contexts == NULL:
        raise MemoryError
    return contexts


cdef bytes wire_protocols(tuple names):
    return b"".join(bytes([len(name)]) + name.encode() for name in names)


cdef SSL_CTX* client_new(object spec, X509_STORE* store) except NULL:
    cdef bytes protocols = wire_protocols(spec.alpn)
    cdef SSL_CTX* c = context_new(spec, False)

    try:
        if spec.verify:
            SSL_CTX_set1_cert_store(c, store)
            SSL_CTX_set_verify(c, SSL_VERIFY_PEER, on_verify)
        if spec.certificate is not None:
            what = "client certificate"
            pem_load_chain(c, spec.certificate, what)
            pem_load_key(c, spec.key, "client key", what)
        if SSL_CTX_set_alpn_protos(c, protocols, <unsigned int>len(protocols)) != 0:
            raise MemoryError
    except BaseException:
        SSL_CTX_free(c)
        raise
    # Kept by us and not by OpenSSL, which would look for a lock and a server's name.
    SSL_CTX_set_session_cache_mode(
        c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL
    )
    SSL_CTX_sess_set_new_cb(c, on_new_session)
    return c


cdef class ClientContext:
    """How to speak TLS with one server; for so many workers.

    Raises:
        TableError: a certificate, key or bundle is of no use; which, and why.
    """

    def __cinit__(self, spec, int workers=1):
        cdef X509_STORE* store = NULL
        cdef int i

        self.contexts = contexts_new(spec, ClientTls, workers)
        self.workers = workers
        self.spec = spec
        # SNI and certificates have names without a trailing dot (RFC 6066 3).
        self._name = spec.server_name.removesuffix(".").encode()
        if self._name:
            self.name = self._name
        if spec.verify:
            store = pem_roots(spec.ca, "CA of the server")
        try:
            for i in range(workers):
                self.contexts[i] = client_new(spec, store)
        finally:
            X509_STORE_free(store)

    def __dealloc__(self):
        contexts_free(self.contexts, self.workers)


# A context for one certificate of a server. Each has all settings but the choice among
# them: a connection that is switched to it (SNI) uses those of the new context.
cdef SSL_CTX* server_new(object spec, int number) except NULL:
    cdef bytes protocols = wire_protocols(spec.alpn)
    cdef int mode = SSL_VERIFY_PEER
    cdef SSL_CTX* c
    cdef annex_t* a

    what = "server certificate" if number == 0 else f"server certificate {number + 1}"
    key = "server key" if number == 0 else f"server key {number + 1}"
    c = context_new(spec, True)
    a = annex_of(c)
    try:
        pem_load_chain(c, spec.certificates[number][0], what)
        pem_load_key(c, spec.certificates[number][1], key, what)
        if spec.client_auth != "none":
            pem_add_roots(
                SSL_CTX_get_cert_store(c), spec.client_ca, "CA of clients", c
            )
            if spec.client_auth == "required":
                mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT
            SSL_CTX_set_verify(c, mode, NULL)
        if protocols:
            a.protocols = <unsigned char*>malloc(len(protocols))
            if a.protocols == NULL:
                raise MemoryError
            memcpy(a.protocols, <const char*>protocols, len(protocols))
            a.size = <unsigned int>len(protocols)
            SSL_CTX_set_alpn_select_cb(c, on_protocols, NULL)
    except BaseException:
        SSL_CTX_free(c)
        raise
    # Sessions are with the clients, in tickets. With client authentication OpenSSL
    # requires a session-id context.
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF)
    SSL_CTX_set_session_id_context(c, b"fastpath", 8)
    return c


cdef SSL_CTX* server_family(object spec) except NULL:
    """The first certificate, with the others behind it."""
    cdef SSL_CTX* first = server_new(spec, 0)
    cdef annex_t* a = annex_of(first)
    cdef SSL_CTX** family = NULL
    cdef int count = <int>len(spec.certificates) - 1

    if count == 0:
        return first
    try:
        a.others = <SSL_CTX**>calloc(count, sizeof(SSL_CTX*))
        if a.others == NULL:
            raise MemoryError
        while a.count < count:
            a.others[a.count] = server_new(spec, a.count + 1)
            a.count += 1
        family = <SSL_CTX**>calloc(count + 1, sizeof(SSL_CTX*))
        if family == NULL:
            raise MemoryError
        family[0] = first
        memcpy(&family[1], a.others, count * sizeof(SSL_CTX*))
        names_init(&a.names, family, count + 1)
    except BaseException:
        SSL_CTX_free(first)
        raise
    finally:
        free(family)
    SSL_CTX_set_tlsext_servername_callback(first, on_server_name)
    return first


# A client may come back to another worker.
cdef int share_ticket_keys(SSL_CTX** contexts, int workers) except -1:
    cdef unsigned char keys[TICKET_KEYS_MOST]
    cdef long size = SSL_CTX_get_tlsext_ticket_keys(contexts[0], NULL, 0)
    cdef int i

    if size > TICKET_KEYS_MOST:
        raise TableError(f"TLS: keys of {size} bytes for tickets")
    SSL_CTX_get_tlsext_ticket_keys(contexts[0], keys, size)
    for i in range(1, workers):
        SSL_CTX_set_tlsext_ticket_keys(contexts[i], keys, size)
    OPENSSL_cleanse(keys, sizeof(keys))
    return 0


cdef class ServerContext:
    """How to speak TLS with clients; for so many workers.

    Raises:
        TableError: a certificate, key or bundle is of no use; which, and why.
    """

    def __cinit__(self, spec, int workers=1):
        cdef int i

        self.contexts = contexts_new(spec, ServerTls, workers)
        self.workers = workers
        self.spec = spec
        for i in range(workers):
            self.contexts[i] = server_family(spec)
        share_ticket_keys(self.contexts, workers)

    def __dealloc__(self):
        contexts_free(self.contexts, self.workers)
