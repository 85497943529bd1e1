# OpenSSL 3: ssl(7), crypto(7), bio(7). Declarations only; macros stand as functions.
# `get0` lends, `get1` gives a reference; `set1` takes its own, `add0` takes ours.
from libc.stdint cimport uint64_t
from libc.time cimport tm

cdef extern from "<openssl/crypto.h>" nogil:
    ctypedef struct CRYPTO_EX_DATA:
        pass
    ctypedef void (*CRYPTO_EX_free)(
        void* parent, void* value, CRYPTO_EX_DATA* data, int index, long l, void* p
    ) noexcept nogil
    void* OPENSSL_malloc(size_t size)
    void OPENSSL_free(void* p)
    void OPENSSL_cleanse(void* p, size_t size)

cdef extern from "<openssl/err.h>" nogil:
    unsigned long ERR_peek_error()
    unsigned long ERR_get_error()
    unsigned long ERR_peek_last_error()
    void ERR_clear_error()
    int ERR_GET_LIB(unsigned long error)
    int ERR_GET_REASON(unsigned long error)
    const char* ERR_reason_error_string(unsigned long error)
    enum:
        ERR_LIB_PEM
        ERR_R_MALLOC_FAILURE

cdef extern from "<openssl/bio.h>" nogil:
    ctypedef struct BIO:
        pass
    ctypedef struct BIO_METHOD:
        pass
    enum:
        BIO_CTRL_EOF
        BIO_CTRL_FLUSH
        BIO_FLAGS_IN_EOF
        BIO_TYPE_SOURCE_SINK
    BIO* BIO_new(const BIO_METHOD* method)
    BIO* BIO_new_mem_buf(const void* data, int size)
    int BIO_free(BIO* b)
    const BIO_METHOD* BIO_s_mem()
    long BIO_get_mem_data(BIO* b, char** data)
    void BIO_set_data(BIO* b, void* data)
    void* BIO_get_data(BIO* b)
    void BIO_set_flags(BIO* b, int flags)
    void BIO_clear_flags(BIO* b, int flags)
    int BIO_test_flags(const BIO* b, int flags)
    void BIO_clear_retry_flags(BIO* b)
    void BIO_set_retry_read(BIO* b)
    void BIO_set_retry_write(BIO* b)
    int BIO_get_new_index()
    BIO_METHOD* BIO_meth_new(int type, const char* name)
    int BIO_meth_set_read_ex(
        BIO_METHOD* m, int (*f)(BIO*, char*, size_t, size_t*) noexcept nogil
    )
    int BIO_meth_set_write_ex(
        BIO_METHOD* m, int (*f)(BIO*, const char*, size_t, size_t*) noexcept nogil
    )
    int BIO_meth_set_ctrl(
        BIO_METHOD* m, long (*f)(BIO*, int, long, void*) noexcept nogil
    )

cdef extern from "<openssl/asn1.h>" nogil:
    ctypedef struct ASN1_STRING:
        pass
    ctypedef struct ASN1_OBJECT:
        pass
    ctypedef struct ASN1_TIME:
        pass
    enum:
        ASN1_STRFLGS_ESC_MSB
    int ASN1_STRING_length(const ASN1_STRING* s)
    const unsigned char* ASN1_STRING_get0_data(const ASN1_STRING* s)
    int ASN1_STRING_to_UTF8(unsigned char** into, const ASN1_STRING* s)
    int ASN1_TIME_to_tm(const ASN1_TIME* t, tm* into)

cdef extern from "<openssl/x509v3.h>" nogil:
    ctypedef struct EVP_PKEY:
        pass
    ctypedef struct X509:
        pass
    ctypedef struct X509_STORE:
        pass
    ctypedef struct X509_STORE_CTX:
        pass
    ctypedef struct X509_VERIFY_PARAM:
        pass
    ctypedef struct GENERAL_NAME:
        pass
    ctypedef struct GENERAL_NAMES:
        pass
    ctypedef struct X509_NAME:
        pass
    ctypedef struct X509_NAME_ENTRY:
        pass
    ctypedef struct EVP_MD:
        pass
    enum:
        GEN_DNS
        GEN_IPADD
        NID_commonName
        NID_organizationName
        NID_subject_alt_name
        X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
        X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS
        X509_CHECK_FLAG_NO_WILDCARDS
        X509_V_ERR_HOSTNAME_MISMATCH
        X509_V_ERR_IP_ADDRESS_MISMATCH
        X509_V_FLAG_PARTIAL_CHAIN
        X509_V_OK
        XN_FLAG_RFC2253
    const EVP_MD* EVP_sha256()
    void EVP_PKEY_free(EVP_PKEY* key)
    void X509_free(X509* certificate)
    int X509_up_ref(X509* certificate)
    int X509_check_private_key(const X509* certificate, const EVP_PKEY* key)
    int X509_check_host(
        X509* certificate, const char* name, size_t n, unsigned int flags, char** peer
    )
    int i2d_X509(const X509* certificate, unsigned char** into)
    X509* d2i_X509(X509** x, const unsigned char** from_, long size)
    int X509_digest(
        const X509* certificate, const EVP_MD* kind, unsigned char* into,
        unsigned int* size,
    )
    X509_NAME* X509_get_subject_name(const X509* certificate)
    const ASN1_TIME* X509_get0_notAfter(const X509* certificate)
    int X509_NAME_entry_count(const X509_NAME* name)
    X509_NAME_ENTRY* X509_NAME_get_entry(const X509_NAME* name, int i)
    ASN1_OBJECT* X509_NAME_ENTRY_get_object(const X509_NAME_ENTRY* e)
    ASN1_STRING* X509_NAME_ENTRY_get_data(const X509_NAME_ENTRY* e)
    int X509_NAME_print_ex(
        BIO* into, const X509_NAME* name, int indent, unsigned long flags
    )
    int OBJ_obj2nid(const ASN1_OBJECT* o)
    void* X509_get_ext_d2i(const X509* certificate, int nid, int* critical, int* index)
    X509_STORE* X509_STORE_new()
    void X509_STORE_free(X509_STORE* store)
    int X509_STORE_add_cert(X509_STORE* store, X509* certificate)
    int X509_STORE_load_file(X509_STORE* store, const char* file)
    int X509_STORE_set_default_paths(X509_STORE* store)
    void* X509_STORE_CTX_get_ex_data(const X509_STORE_CTX* x, int index)
    int X509_STORE_CTX_get_error(const X509_STORE_CTX* x)
    X509_STORE_CTX* X509_STORE_CTX_new()
    void X509_STORE_CTX_free(X509_STORE_CTX* x)
    # The chain, STACK_OF(X509)*, is only passed on.
    int X509_STORE_CTX_init(
        X509_STORE_CTX* x, X509_STORE* store, X509* certificate, void* chain
    )
    int X509_STORE_CTX_set_default(X509_STORE_CTX* x, const char* name)
    X509_VERIFY_PARAM* X509_STORE_CTX_get0_param(X509_STORE_CTX* x)
    int X509_VERIFY_PARAM_set1(X509_VERIFY_PARAM* to, const X509_VERIFY_PARAM* from_)
    int X509_verify_cert(X509_STORE_CTX* x)
    X509* X509_STORE_CTX_get0_cert(const X509_STORE_CTX* x)
    const char* X509_verify_cert_error_string(long error)
    const char* X509_get_default_cert_file()
    int X509_VERIFY_PARAM_set_flags(X509_VERIFY_PARAM* p, unsigned long flags)
    void X509_VERIFY_PARAM_set_hostflags(X509_VERIFY_PARAM* p, unsigned int flags)
    int X509_VERIFY_PARAM_set1_host(X509_VERIFY_PARAM* p, const char* name, size_t size)
    int X509_VERIFY_PARAM_set1_ip_asc(X509_VERIFY_PARAM* p, const char* ip)
    int sk_GENERAL_NAME_num(const GENERAL_NAMES* names)
    GENERAL_NAME* sk_GENERAL_NAME_value(const GENERAL_NAMES* names, int i)
    void* GENERAL_NAME_get0_value(const GENERAL_NAME* name, int* type)
    void GENERAL_NAMES_free(GENERAL_NAMES* names)

cdef extern from "<openssl/pem.h>" nogil:
    enum:
        PEM_R_NO_START_LINE
    ctypedef int (*pem_password_cb)(
        char* into, int size, int writing, void* p
    ) noexcept nogil
    X509* PEM_read_bio_X509(BIO* b, X509** x, pem_password_cb password, void* p)
    EVP_PKEY* PEM_read_bio_PrivateKey(
        BIO* b, EVP_PKEY** x, pem_password_cb password, void* p
    )

cdef extern from * nogil:
    """
    #include <openssl/ssl.h>
    #ifndef SSL_R_RECORD_LAYER_FAILURE  /* which 3.2 has, and may be what runs */
    #define SSL_R_RECORD_LAYER_FAILURE 313
    #endif
    """

cdef extern from "<openssl/ssl.h>" nogil:
    ctypedef struct SSL:
        pass
    ctypedef struct SSL_CTX:
        pass
    ctypedef struct SSL_METHOD:
        pass
    ctypedef struct SSL_SESSION:
        pass
    enum:
        OPENSSL_NPN_NEGOTIATED
        SSL_AD_REASON_OFFSET
        SSL_ERROR_SYSCALL
        SSL_ERROR_WANT_READ
        SSL_ERROR_WANT_WRITE
        SSL_ERROR_ZERO_RETURN
        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
        SSL_MODE_ENABLE_PARTIAL_WRITE
        SSL_OP_NO_RENEGOTIATION
        SSL_R_CERTIFICATE_VERIFY_FAILED
        SSL_R_HTTP_REQUEST
        SSL_R_RECORD_LAYER_FAILURE
        SSL_R_UNEXPECTED_EOF_WHILE_READING
        SSL_R_WRONG_VERSION_NUMBER
        SSL_SESS_CACHE_CLIENT
        SSL_SESS_CACHE_NO_INTERNAL
        SSL_SESS_CACHE_OFF
        SSL_TLSEXT_ERR_ALERT_FATAL
        SSL_TLSEXT_ERR_NOACK
        SSL_TLSEXT_ERR_OK
        SSL_VERIFY_FAIL_IF_NO_PEER_CERT
        SSL_VERIFY_PEER
        SSL3_RT_HEADER
        SSL_RECEIVED_SHUTDOWN
        TLS1_2_VERSION
        TLS1_3_VERSION
        TLSEXT_NAMETYPE_host_name
    # Contexts.
    const SSL_METHOD* TLS_client_method()
    const SSL_METHOD* TLS_server_method()
    SSL_CTX* SSL_CTX_new(const SSL_METHOD* method)
    void SSL_CTX_free(SSL_CTX* c)
    int SSL_CTX_up_ref(SSL_CTX* c)
    int SSL_CTX_get_ex_new_index(
        long l, void* p, void* make, void* copy, CRYPTO_EX_free release
    )
    int SSL_CTX_set_ex_data(SSL_CTX* c, int index, void* value)
    void* SSL_CTX_get_ex_data(const SSL_CTX* c, int index)
    long SSL_CTX_set_mode(SSL_CTX* c, long mode)
    uint64_t SSL_CTX_set_options(SSL_CTX* c, uint64_t options)
    int SSL_CTX_set_min_proto_version(SSL_CTX* c, int version)
    long SSL_CTX_set1_groups_list(SSL_CTX* c, const char* names)
    int SSL_CTX_set_cipher_list(SSL_CTX* c, const char* names)
    void SSL_CTX_set_msg_callback(
        SSL_CTX* c,
        void (*f)(
            int, int, int, const void*, size_t, SSL*, void*
        ) noexcept nogil
    )
    void SSL_CTX_set_read_ahead(SSL_CTX* c, int on)
    void SSL_CTX_set_default_read_buffer_len(SSL_CTX* c, size_t size)
    long SSL_CTX_set_session_cache_mode(SSL_CTX* c, long mode)
    void SSL_CTX_sess_set_new_cb(
        SSL_CTX* c, int (*f)(SSL*, SSL_SESSION*) noexcept nogil
    )
    int SSL_CTX_set_session_id_context(
        SSL_CTX* c, const unsigned char* id, unsigned int n
    )
    long SSL_CTX_get_tlsext_ticket_keys(SSL_CTX* c, void* keys, long size)
    long SSL_CTX_set_tlsext_ticket_keys(SSL_CTX* c, void* keys, long size)
    void SSL_CTX_set_verify(
        SSL_CTX* c, int mode, int (*f)(int, X509_STORE_CTX*) noexcept nogil
    )
    void SSL_CTX_set1_cert_store(SSL_CTX* c, X509_STORE* store)
    X509_STORE* SSL_CTX_get_cert_store(const SSL_CTX* c)
    X509_VERIFY_PARAM* SSL_CTX_get0_param(SSL_CTX* c)
    int SSL_CTX_add_client_CA(SSL_CTX* c, X509* certificate)
    int SSL_CTX_use_certificate(SSL_CTX* c, X509* certificate)
    int SSL_CTX_add0_chain_cert(SSL_CTX* c, X509* certificate)
    int SSL_CTX_use_PrivateKey(SSL_CTX* c, EVP_PKEY* key)
    X509* SSL_CTX_get0_certificate(const SSL_CTX* c)
    int SSL_CTX_set_alpn_protos(
        SSL_CTX* c, const unsigned char* protocols, unsigned int n
    )
    void SSL_CTX_set_alpn_select_cb(
        SSL_CTX* c,
        int (*f)(
            SSL*, const unsigned char**, unsigned char*,
            const unsigned char*, unsigned int, void*,
        ) noexcept nogil,
        void* p,
    )
    int SSL_select_next_proto(
        unsigned char** into, unsigned char* size,
        const unsigned char* ours, unsigned int our_size,
        const unsigned char* theirs, unsigned int their_size,
    )
    long SSL_CTX_set_tlsext_servername_callback(
        SSL_CTX* c, int (*f)(SSL*, int*, void*) noexcept nogil
    )
    # Sessions.
    SSL_SESSION* SSL_SESSION_dup(const SSL_SESSION* session)
    void SSL_SESSION_free(SSL_SESSION* session)
    # Connections.
    SSL* SSL_new(SSL_CTX* c)
    void SSL_free(SSL* s)
    SSL_CTX* SSL_get_SSL_CTX(const SSL* s)
    SSL_CTX* SSL_set_SSL_CTX(SSL* s, SSL_CTX* c)
    int SSL_get_ex_new_index(
        long l, void* p, void* make, void* copy, CRYPTO_EX_free release
    )
    int SSL_set_ex_data(SSL* s, int index, void* value)
    void* SSL_get_ex_data(const SSL* s, int index)
    int SSL_get_ex_data_X509_STORE_CTX_idx()
    void SSL_set_bio(SSL* s, BIO* reading, BIO* writing)
    BIO* SSL_get_rbio(const SSL* s)
    BIO* SSL_get_wbio(const SSL* s)
    void SSL_set_connect_state(SSL* s)
    void SSL_set_accept_state(SSL* s)
    int SSL_set_tlsext_host_name(SSL* s, const char* name)
    const char* SSL_get_servername(const SSL* s, int type)
    X509_VERIFY_PARAM* SSL_get0_param(SSL* s)
    int SSL_set_session(SSL* s, SSL_SESSION* session)
    int SSL_session_reused(const SSL* s)
    int SSL_do_handshake(SSL* s)
    int SSL_is_server(const SSL* s)
    int SSL_in_init(const SSL* s)
    void SSL_set_shutdown(SSL* s, int mode)
    int SSL_read_ex(SSL* s, void* into, size_t size, size_t* got)
    int SSL_peek_ex(SSL* s, void* into, size_t size, size_t* got)
    int SSL_write_ex(SSL* s, const void* data, size_t size, size_t* taken)
    int SSL_has_pending(const SSL* s)
    int SSL_free_buffers(SSL* s)
    int SSL_shutdown(SSL* s)
    int SSL_get_error(const SSL* s, int result)
    long SSL_get_verify_result(const SSL* s)
    X509* SSL_get0_peer_certificate(const SSL* s)
    void* SSL_get_peer_cert_chain(const SSL* s)
    X509* SSL_get1_peer_certificate(const SSL* s)
    void SSL_get0_alpn_selected(
        const SSL* s, const unsigned char** name, unsigned int* size
    )
    const char* SSL_get_version(const SSL* s)
