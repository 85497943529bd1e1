"""Texts for why TLS failed: what we refused of the peer, or the peer of us."""

from libc.stdio cimport snprintf
from libc.string cimport strchr, strlen, strncmp

from fastpath.base.linux.socket cimport AF_INET, AF_INET6, inet_ntop
from fastpath.tls.context cimport tls_refused
from fastpath.tls.openssl cimport (
    ASN1_STRING, ERR_GET_REASON, GENERAL_NAME, GENERAL_NAMES, GEN_DNS, GEN_IPADD,
    SSL_AD_REASON_OFFSET, SSL_R_CERTIFICATE_VERIFY_FAILED, SSL_R_HTTP_REQUEST,
    SSL_R_UNEXPECTED_EOF_WHILE_READING, SSL_R_WRONG_VERSION_NUMBER, X509,
    ASN1_STRING_get0_data, ASN1_STRING_length, ERR_clear_error, ERR_reason_error_string,
    GENERAL_NAMES_free, GENERAL_NAME_get0_value, NID_subject_alt_name,
    SSL_get_verify_result, SSL_is_server, X509_get_ext_d2i,
    X509_verify_cert_error_string, sk_GENERAL_NAME_num, sk_GENERAL_NAME_value,
)

cdef enum:
    ADDRESS_BYTES = 46    # INET6_ADDRSTRLEN
    ALERTS = 256          # are numbered with a byte
    ALERT_BYTES = 64      # of OpenSSL's words for one


# Append `count` bytes from the peer to the text; return its new length.
cdef size_t append(
    char* into, size_t used, size_t size, const char* bytes, size_t count
) noexcept nogil:
    cdef size_t i

    for i in range(count):
        if used + 1 >= size:
            break
        into[used] = bytes[i] if 32 < bytes[i] < 127 else c"?"
        used += 1
    into[used] = 0
    return used


cdef size_t append_name(
    char* into, size_t used, size_t size, const GENERAL_NAME* name
) noexcept nogil:
    cdef char address[ADDRESS_BYTES]
    cdef const ASN1_STRING* value
    cdef const char* bytes
    cdef int count
    cdef int kind

    value = <const ASN1_STRING*>GENERAL_NAME_get0_value(name, &kind)
    if kind != GEN_DNS and kind != GEN_IPADD:
        return used
    bytes = <const char*>ASN1_STRING_get0_data(value)
    count = ASN1_STRING_length(value)
    if kind == GEN_IPADD:
        if count != 4 and count != 16:
            return used
        inet_ntop(AF_INET if count == 4 else AF_INET6, bytes, address, ADDRESS_BYTES)
        bytes = address
        count = <int>strlen(address)
    if used > 0 and into[used - 1] != c" ":
        if used + 3 >= size:
            return used
        into[used] = c","
        into[used + 1] = c" "
        used += 2
    return append(into, used, size, bytes, count)


# "hostname mismatch, certificate is for a, b"
cdef void say_names(
    const char* problem, X509* certificate, char* into, size_t size
) noexcept nogil:
    cdef GENERAL_NAMES* names
    cdef size_t first
    cdef size_t used
    cdef int i

    used = min(snprintf(into, size, b"%s, certificate is for ", problem), <int>size - 1)
    first = used
    names = <GENERAL_NAMES*>X509_get_ext_d2i(
        certificate, NID_subject_alt_name, NULL, NULL
    )
    for i in range(sk_GENERAL_NAME_num(names)):
        used = append_name(into, used, size, sk_GENERAL_NAME_value(names, i))
    GENERAL_NAMES_free(names)
    ERR_clear_error()
    if used == first:
        snprintf(into, size, b"%s, certificate names no host", problem)


# What the verification of the peer's certificate says.
cdef void say_verdict(SSL* ssl, char* into, size_t size) noexcept nogil:
    cdef const char* text = X509_verify_cert_error_string(SSL_get_verify_result(ssl))
    cdef X509* certificate = tls_refused(ssl)

    if certificate != NULL:
        say_names(text, certificate, into, size)
    else:
        snprintf(into, size, b"%s", text)


# "tlsv13 alert certificate required", without what is said already.
cdef void say_alert(
    const char* text, int number, char* into, size_t size
) noexcept nogil:
    cdef const char* word = strchr(text, c" ") if text != NULL else NULL

    if word == NULL:
        snprintf(into, size, b"%d", number)
        return
    word += 1
    if strncmp(word, b"alert ", 6) == 0:
        word += 6
    snprintf(into, size, b"%s", word)


cdef void refusal_say(
    SSL* ssl, unsigned long error, bint handshaking, char* into, size_t size
) noexcept nogil:
    cdef const char* text = ERR_reason_error_string(error)
    cdef const char* peer = b"client" if SSL_is_server(ssl) else b"server"
    cdef const char* phase = b"handshake: " if handshaking else b""
    cdef int reason = ERR_GET_REASON(error)
    cdef char alert[ALERT_BYTES]

    if reason == SSL_R_CERTIFICATE_VERIFY_FAILED:
        say_verdict(ssl, into, size)
    elif SSL_AD_REASON_OFFSET < reason < SSL_AD_REASON_OFFSET + ALERTS:
        say_alert(text, reason - SSL_AD_REASON_OFFSET, alert, sizeof(alert))
        snprintf(into, size, b"%salert from the %s: %s", phase, peer, alert)
    elif reason == SSL_R_UNEXPECTED_EOF_WHILE_READING:
        snprintf(into, size, b"%sthe %s cut the connection", phase, peer)
    elif handshaking and (
        reason == SSL_R_WRONG_VERSION_NUMBER or reason == SSL_R_HTTP_REQUEST
    ):
        snprintf(into, size, b"%s (the %s does not speak TLS)", text, peer)
    elif text != NULL:
        snprintf(into, size, b"%s%s", phase, text)
    else:
        snprintf(into, size, b"%sOpenSSL's error %lx", phase, error)
