"""Certificates of clients: fingerprints for keys, names for policies."""

import calendar

from libc.string cimport memcpy
from libc.time cimport tm

from fastpath.tls.openssl cimport (
    ASN1_STRFLGS_ESC_MSB, ASN1_STRING, BIO, CRYPTO_EX_DATA, X509, X509_NAME,
    X509_NAME_ENTRY, X509_STORE, X509_STORE_CTX, X509_V_FLAG_PARTIAL_CHAIN, X509_V_OK,
    X509_VERIFY_PARAM, XN_FLAG_RFC2253,
    ASN1_STRING_to_UTF8, ASN1_TIME_to_tm, BIO_free, BIO_get_mem_data, BIO_new,
    BIO_s_mem, ERR_clear_error, EVP_sha256, NID_commonName, NID_organizationName,
    OBJ_obj2nid, OPENSSL_free, OPENSSL_malloc, SSL_CTX_free, SSL_CTX_get0_param,
    SSL_CTX_get_cert_store, SSL_CTX_up_ref, SSL_get0_peer_certificate,
    SSL_get_SSL_CTX, SSL_get_ex_data, SSL_get_ex_new_index, SSL_get_peer_cert_chain,
    SSL_get_verify_result, SSL_is_server, SSL_set_ex_data, X509_NAME_ENTRY_get_data,
    X509_NAME_ENTRY_get_object, X509_NAME_entry_count, X509_NAME_get_entry,
    X509_NAME_print_ex, X509_STORE_CTX_free, X509_STORE_CTX_get0_param,
    X509_STORE_CTX_init, X509_STORE_CTX_new, X509_STORE_CTX_set_default,
    X509_STORE_free, X509_VERIFY_PARAM_set1, X509_VERIFY_PARAM_set_flags, X509_digest,
    X509_free, X509_get0_notAfter, X509_get_subject_name, X509_verify_cert, d2i_X509,
    i2d_X509,
)
from fastpath.tls.pem cimport pem_roots


# STACK_OF(X509)*, as openssl.pxd has it.
cdef extern from "<openssl/stack.h>" nogil:
    void* OPENSSL_sk_new_null()
    int OPENSSL_sk_push(void* stack, const void* one)
    void* OPENSSL_sk_pop(void* stack)
    void OPENSSL_sk_free(void* stack)
    int OPENSSL_sk_num(const void* stack)  # NULL: -1
    void* OPENSSL_sk_value(const void* stack, int i)


cdef void fingerprint_free(
    void* parent, void* value, CRYPTO_EX_DATA* data, int index, long l, void* p
) noexcept nogil:
    OPENSSL_free(value)


cdef void context_free(
    void* parent, void* value, CRYPTO_EX_DATA* data, int index, long l, void* p
) noexcept nogil:
    SSL_CTX_free(<SSL_CTX*>value)


# Against rule 3, as in context.pyx: OpenSSL's numbers for the process. The second is of
# the context by which the certificate was found good last; held, so that no other one
# takes its address.
cdef int FINGERPRINT = SSL_get_ex_new_index(0, NULL, NULL, NULL, fingerprint_free)
cdef int HELD_GOOD_BY = SSL_get_ex_new_index(0, NULL, NULL, NULL, context_free)


# The client's, if the handshake has verified it. (A failed verification ends the
# handshake; the result is looked at so that this holds even if that were to change.)
cdef X509* verified(const SSL* ssl) noexcept nogil:
    if ssl == NULL or not SSL_is_server(ssl):
        return NULL
    if SSL_get_verify_result(ssl) != X509_V_OK:
        return NULL
    return SSL_get0_peer_certificate(ssl)


cdef int peer_fingerprint(SSL* ssl, char* into) noexcept nogil:
    cdef X509* certificate = verified(ssl)
    cdef unsigned int size = FINGERPRINT_BYTES
    cdef void* known

    if certificate == NULL:
        return 0
    known = SSL_get_ex_data(ssl, FINGERPRINT)
    if known != NULL:
        memcpy(into, known, FINGERPRINT_BYTES)
        return FINGERPRINT_BYTES
    if not X509_digest(certificate, EVP_sha256(), <unsigned char*>into, &size):
        ERR_clear_error()
        return -1
    known = OPENSSL_malloc(FINGERPRINT_BYTES)
    if known != NULL:
        memcpy(known, into, FINGERPRINT_BYTES)
        if not SSL_set_ex_data(ssl, FINGERPRINT, known):
            OPENSSL_free(known)
            ERR_clear_error()
    return FINGERPRINT_BYTES


# Append it in DER to `into`, unless that is NULL. Its size; 0 = OpenSSL failed.
cdef int certificate_put(const X509* certificate, unsigned char** into) noexcept nogil:
    cdef int size = i2d_X509(certificate, into if into[0] != NULL else NULL)

    if size < 0:
        ERR_clear_error()
    return size if size > 0 else 0


cdef int peer_certificate(const SSL* ssl, unsigned char* into) noexcept nogil:
    cdef X509* certificate = verified(ssl)
    cdef void* chain
    cdef int size, more, i

    if certificate == NULL:
        return 0
    size = certificate_put(certificate, &into)
    chain = SSL_get_peer_cert_chain(ssl)
    for i in range(OPENSSL_sk_num(chain) if size > 0 else 0):
        more = certificate_put(<X509*>OPENSSL_sk_value(chain, i), &into)
        if more == 0:
            break
        size += more
    return size


# As a handshake does it, by its context or, NULL, by our usual parameters; `chain` are
# certificates that the client sent along.
cdef bint verifies(
    X509_STORE* roots, X509* certificate, void* chain, SSL_CTX* by
) noexcept nogil:
    cdef X509_STORE_CTX* c = X509_STORE_CTX_new()
    cdef X509_VERIFY_PARAM* p
    cdef bint good = False

    if c != NULL and X509_STORE_CTX_init(c, roots, certificate, chain) and (
        X509_STORE_CTX_set_default(c, b"ssl_client")
    ):
        p = X509_STORE_CTX_get0_param(c)
        # As in context.pyx: any certificate of the bundle is a root.
        good = (
            X509_VERIFY_PARAM_set_flags(p, X509_V_FLAG_PARTIAL_CHAIN) if by == NULL
            else X509_VERIFY_PARAM_set1(p, SSL_CTX_get0_param(by))
        ) and X509_verify_cert(c) == 1
    X509_STORE_CTX_free(c)
    ERR_clear_error()
    return good


cdef bint peer_holds(SSL* ssl, SSL_CTX* now) noexcept nogil:
    cdef X509* certificate
    cdef SSL_CTX* by

    # In order: nearly always it is the same context; without a certificate there is
    # nothing to hold; then what was found out before; then verify.
    if SSL_get_SSL_CTX(ssl) == now:
        return True
    certificate = verified(ssl)
    if certificate == NULL:
        return True
    by = <SSL_CTX*>SSL_get_ex_data(ssl, HELD_GOOD_BY)
    if by == now:
        return True
    if not verifies(
        SSL_CTX_get_cert_store(now), certificate, SSL_get_peer_cert_chain(ssl), now
    ):
        return False
    if SSL_CTX_up_ref(now):
        if SSL_set_ex_data(ssl, HELD_GOOD_BY, now):
            SSL_CTX_free(by)  # NULL is accepted
        else:
            SSL_CTX_free(now)
    return True


# ---- Its words.

cdef str text_of(const ASN1_STRING* s):
    """A name as text; None = its alphabet is unknown."""
    cdef unsigned char* text = NULL
    cdef int size = ASN1_STRING_to_UTF8(&text, s)

    if size < 0:
        ERR_clear_error()
        return None
    try:
        return text[:size].decode()
    except UnicodeDecodeError:
        return None
    finally:
        OPENSSL_free(text)


cdef str subject_of(const X509_NAME* name):
    cdef BIO* b = BIO_new(BIO_s_mem())
    cdef char* text = NULL
    cdef long size

    if b == NULL:
        raise MemoryError
    try:
        # RFC 4514 is RFC 2253 with UTF-8 as it is.
        X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB)
        size = BIO_get_mem_data(b, &text)
        return text[:size].decode(errors="replace") if size > 0 else ""
    finally:
        BIO_free(b)


cdef tuple names_of(const X509_NAME* name):
    """(common name, organizations)."""
    cdef X509_NAME_ENTRY* entry
    cdef int i, nid

    common, organizations = "", []
    for i in range(X509_NAME_entry_count(name)):
        entry = X509_NAME_get_entry(name, i)
        nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry))
        if nid != NID_commonName and nid != NID_organizationName:
            continue
        text = text_of(X509_NAME_ENTRY_get_data(entry))
        if text is None:
            return "", ()
        if nid == NID_commonName:
            common = text
        else:
            organizations.append(text)
    return common, tuple(organizations)


cdef object end_of(const X509* certificate):
    cdef tm t

    if not ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &t):
        ERR_clear_error()
        return 0
    return calendar.timegm((
        t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec
    ))


cdef tuple certificate_read(bytes der):
    cdef const unsigned char* at = der
    cdef X509* certificate = d2i_X509(NULL, &at, len(der))
    cdef X509_NAME* name

    if certificate == NULL:
        ERR_clear_error()
        raise ValueError("not a certificate in DER")
    try:
        name = X509_get_subject_name(certificate)
        size = at - <const unsigned char*>der
        return subject_of(name), *names_of(name), end_of(certificate), size
    finally:
        X509_free(certificate)


# ---- Which authority it is of.

cdef int chain_read(void* chain, bytes der) except -1:
    """Read certificates that stand one behind the other."""
    cdef const unsigned char* at = der
    cdef const unsigned char* end = at + len(der)
    cdef X509* certificate

    while at < end:
        certificate = d2i_X509(NULL, &at, end - at)
        if certificate == NULL:
            ERR_clear_error()
            raise ValueError("not certificates in DER")
        if not OPENSSL_sk_push(chain, certificate):
            X509_free(certificate)
            raise MemoryError
    return 0


cdef void chain_free(void* chain) noexcept:
    while OPENSSL_sk_num(chain) > 0:
        X509_free(<X509*>OPENSSL_sk_pop(chain))
    OPENSSL_sk_free(chain)


def is_vouched_for(bytes der, bytes chain, bytes roots):
    """Whether a handshake that trusts `roots` takes the certificate of a client.

    `chain` are certificates that came along with it, DER one behind the other; `roots`
    is a bundle of PEM. Raises ValueError for what is no certificate, TableError for
    what is no bundle.
    """
    cdef X509_STORE* store = NULL
    cdef void* stack = OPENSSL_sk_new_null()

    if stack == NULL:
        raise MemoryError
    try:
        chain_read(stack, der)
        chain_read(stack, chain)
        if OPENSSL_sk_num(stack) == 0:
            return False
        store = pem_roots(roots, "roots")
        return verifies(store, <X509*>OPENSSL_sk_value(stack, 0), stack, NULL)
    finally:
        X509_STORE_free(store)
        chain_free(stack)


# ---- The door for tests.

def read_certificate(bytes der):
    """As certificate_read."""
    return certificate_read(der)
