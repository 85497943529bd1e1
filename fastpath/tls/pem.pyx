"""Certificates and keys out of PEM, into contexts and stores of OpenSSL.

All that can be wrong with them is found here, and is a TableError that says which it
is and why. No message has a part of the PEM in it.
"""

import os

from fastpath.tls.openssl cimport (
    BIO, ERR_GET_LIB, ERR_GET_REASON, ERR_LIB_PEM, ERR_R_MALLOC_FAILURE, EVP_PKEY,
    PEM_R_NO_START_LINE, X509,
    BIO_free, BIO_new_mem_buf, ERR_clear_error, ERR_get_error, ERR_peek_last_error,
    ERR_reason_error_string, EVP_PKEY_free, PEM_read_bio_PrivateKey, PEM_read_bio_X509,
    SSL_CTX_add0_chain_cert, SSL_CTX_add_client_CA, SSL_CTX_get0_certificate,
    SSL_CTX_use_PrivateKey, SSL_CTX_use_certificate, X509_STORE_add_cert,
    X509_STORE_free, X509_STORE_load_file, X509_STORE_new, X509_STORE_set_default_paths,
    X509_check_private_key, X509_free, X509_get_default_cert_file,
)

from fastpath.api.errors import TableError

# Where distributions keep their roots, for an OpenSSL that was built for another one
# (as in a wheel) and does not find them.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
)
ROOTS_BY_NAME = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # of the environment, for OpenSSL


cdef bint pem_starved() noexcept:
    cdef unsigned long error = ERR_get_error()
    cdef bint starved = False

    # What fails for want of memory may be blamed on something else further up.
    while error != 0:
        starved = starved or ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE
        error = ERR_get_error()
    return starved


cdef str pem_reason():
    cdef const char* text = ERR_reason_error_string(ERR_peek_last_error())

    # Without memory for the error there is none.
    if pem_starved() or text == NULL:
        raise MemoryError
    return text.decode("ascii", "replace")


cdef int refuse_password(char* into, int size, int writing, void* p) noexcept nogil:
    return -1  # without this, OpenSSL asks for one on the terminal


cdef BIO* open_text(bytes pem) except NULL:
    cdef BIO* b = BIO_new_mem_buf(<const char*>pem, <int>len(pem))

    if b == NULL:
        raise MemoryError
    return b


cdef X509* next_certificate(BIO* b, str what) except? NULL:
    """Return the next certificate, owned; NULL = no more."""
    cdef X509* certificate
    cdef unsigned long error

    ERR_clear_error()
    certificate = PEM_read_bio_X509(b, NULL, refuse_password, NULL)
    if certificate == NULL:
        error = ERR_peek_last_error()
        if ERR_GET_LIB(error) != ERR_LIB_PEM or (
            ERR_GET_REASON(error) != PEM_R_NO_START_LINE
        ):
            raise TableError(f"{what}: a certificate in it is broken: {pem_reason()}")
        if pem_starved():
            raise MemoryError
    return certificate


cdef int pem_load_chain(SSL_CTX* context, bytes pem, str what) except -1:
    cdef BIO* b = open_text(pem)
    cdef X509* certificate = NULL

    try:
        certificate = next_certificate(b, what)
        if certificate == NULL:
            raise TableError(f"{what}: no PEM certificate in it")
        if SSL_CTX_use_certificate(context, certificate) != 1:
            raise TableError(f"{what}: {pem_reason()}")
        X509_free(certificate)
        certificate = NULL
        while True:
            certificate = next_certificate(b, what)
            if certificate == NULL:
                break
            if SSL_CTX_add0_chain_cert(context, certificate) != 1:
                raise TableError(f"{what}: its chain: {pem_reason()}")
            certificate = NULL  # the context's now
    finally:
        X509_free(certificate)
        BIO_free(b)
    return 0


cdef EVP_PKEY* read_key(bytes pem, str what) except NULL:
    """Return the private key in `pem`, owned."""
    cdef BIO* b
    cdef EVP_PKEY* key

    if b"ENCRYPTED" in pem:
        raise TableError(f"{what} is protected by a pass phrase")
    if b"PRIVATE KEY-----" not in pem:
        raise TableError(f"{what}: no PEM private key in it")
    b = open_text(pem)
    key = PEM_read_bio_PrivateKey(b, NULL, refuse_password, NULL)
    BIO_free(b)
    if key == NULL:
        raise TableError(f"{what} is broken: {pem_reason()}")
    return key


cdef int pem_load_key(
    SSL_CTX* context, bytes pem, str what, str certificate
) except -1:
    cdef EVP_PKEY* key = read_key(pem, what)

    try:
        if X509_check_private_key(SSL_CTX_get0_certificate(context), key) != 1:
            raise TableError(f"{what} does not match the {certificate}")
        if SSL_CTX_use_PrivateKey(context, key) != 1:
            raise TableError(f"{what}: {pem_reason()}")
    finally:
        ERR_clear_error()
        EVP_PKEY_free(key)
    return 0


cdef int pem_add_roots(
    X509_STORE* store, bytes pem, str what, SSL_CTX* asked
) except -1:
    cdef BIO* b = open_text(pem)
    cdef X509* certificate = NULL
    cdef int count = 0

    try:
        while True:
            certificate = next_certificate(b, what)
            if certificate == NULL:
                break
            count += 1
            if X509_STORE_add_cert(store, certificate) != 1:
                raise TableError(f"{what}: certificate {count}: {pem_reason()}")
            if asked != NULL:
                if SSL_CTX_add_client_CA(asked, certificate) != 1:
                    raise MemoryError
            X509_free(certificate)
            certificate = NULL
    finally:
        X509_free(certificate)
        BIO_free(b)
    if count == 0:
        raise TableError(f"{what}: no PEM certificate in it")
    return 0


cdef int add_system_roots(X509_STORE* store) except -1:
    """Add what this machine trusts."""
    if X509_STORE_set_default_paths(store) != 1 and pem_starved():
        raise MemoryError
    if any(name in os.environ for name in ROOTS_BY_NAME):
        return 0
    if os.path.exists(X509_get_default_cert_file()):
        return 0
    for path in BUNDLES:
        if X509_STORE_load_file(store, path.encode()) == 1:
            break
        if pem_starved():  # and perhaps some of them are missing
            raise MemoryError
    return 0


cdef X509_STORE* pem_roots(bytes pem, str what) except NULL:
    cdef X509_STORE* store = X509_STORE_new()

    if store == NULL:
        raise MemoryError
    try:
        if pem is None:
            add_system_roots(store)
        elif pem:
            pem_add_roots(store, pem, what, NULL)
    except BaseException:
        X509_STORE_free(store)
        raise
    return store
