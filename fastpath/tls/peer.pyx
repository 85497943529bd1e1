"""Certificates of clients: fingerprints for keys, names for policies."""

import calendar

from libc.string cimport memcpy
from libc.time cimport tm

from fastpath.tls.openssl cimport (
    ASN1_STRFLGS_ESC_MSB, ASN1_STRING, BIO, CRYPTO_EX_DATA, X509, X509_NAME,
    X509_NAME_ENTRY, X509_STORE_CTX, X509_V_OK, XN_FLAG_RFC2253,
    ASN1_STRING_to_UTF8, ASN1_TIME_to_tm, BIO_free, BIO_get_mem_data, BIO_new,
    BIO_s_mem, ERR_clear_error, EVP_sha256, NID_commonName, NID_organizationName,
    OBJ_obj2nid, OPENSSL_free, OPENSSL_malloc, SSL_CTX_free, SSL_CTX_get0_param,
    SSL_CTX_get_cert_store, SSL_CTX_up_ref, SSL_get0_peer_certificate,
    SSL_get_SSL_CTX, SSL_get_ex_data, SSL_get_ex_new_index, SSL_get_peer_cert_chain,
    SSL_get_verify_result, SSL_is_server, SSL_set_ex_data, X509_NAME_ENTRY_get_data,
    X509_NAME_ENTRY_get_object, X509_NAME_entry_count, X509_NAME_get_entry,
    X509_NAME_print_ex, X509_STORE_CTX_free, X509_STORE_CTX_get0_param,
    X509_STORE_CTX_init, X509_STORE_CTX_new, X509_STORE_CTX_set_default,
    X509_VERIFY_PARAM_set1, X509_digest, X509_free, X509_get0_notAfter,
    X509_get_subject_name, X509_verify_cert, d2i_X509, i2d_X509,
)


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


cdef int peer_certificate(const SSL* ssl, unsigned char* into) noexcept nogil:
    cdef X509* certificate = verified(ssl)
    cdef int size

    if certificate == NULL:
        return 0
    size = i2d_X509(certificate, &into if into != NULL else NULL)
    if size < 0:
        ERR_clear_error()
    return size if size > 0 else 0


# As a handshake does it, with what the client sent of its chain.
cdef bint verifies(SSL* ssl, X509* certificate, SSL_CTX* by) noexcept nogil:
    cdef X509_STORE_CTX* c = X509_STORE_CTX_new()
    cdef bint good

    good = c != NULL and X509_STORE_CTX_init(
        c, SSL_CTX_get_cert_store(by), certificate, SSL_get_peer_cert_chain(ssl)
    ) and X509_STORE_CTX_set_default(c, b"ssl_client") and X509_VERIFY_PARAM_set1(
        X509_STORE_CTX_get0_param(c), SSL_CTX_get0_param(by)
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
    if not verifies(ssl, certificate, now):
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
        return subject_of(name), *names_of(name), end_of(certificate)
    finally:
        X509_free(certificate)


# ---- The door for tests.

def read_certificate(bytes der):
    """As certificate_read."""
    return certificate_read(der)
