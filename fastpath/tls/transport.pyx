"""One connected endpoint. Knows a descriptor and, where there is TLS, OpenSSL's state.

OpenSSL reads and writes the socket itself. What a call found (dry, full, ended,
broken) goes into the flags, for the code that moves bytes; the reason of a failure is
kept for the log line. A FIN without a close_notify is an end, but not a clean one: an
attacker on the way may have cut the stream.
"""

from libc.errno cimport EBADMSG, ENOMEM, EPIPE, EPROTO
from libc.stdio cimport snprintf
from libc.string cimport memset

from fastpath.base.end cimport end_close
from fastpath.base.linux.debug cimport check
from fastpath.base.linux.socket cimport MSG_DONTWAIT, MSG_PEEK, SHUT_WR, shutdown
from fastpath.tls.bio cimport (
    wire_dry, wire_expect_hello, wire_expect_plaintext, wire_flooded, wire_look,
    wire_met_plaintext, wire_more, wire_new, wire_progress, wire_push,
)
from fastpath.tls.buffers cimport buffers_held, buffers_keep, buffers_leave
from fastpath.tls.context cimport tls_forget
from fastpath.tls.openssl cimport (
    BIO, ERR_GET_REASON, SSL_ERROR_SYSCALL, SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE,
    SSL_ERROR_ZERO_RETURN, SSL_R_HTTP_REQUEST, SSL_R_RECORD_LAYER_FAILURE,
    SSL_R_UNEXPECTED_EOF_WHILE_READING, X509_VERIFY_PARAM, BIO_free, ERR_clear_error,
    ERR_get_error, ERR_peek_error, SSL_do_handshake, SSL_free, SSL_get0_param,
    SSL_get_SSL_CTX, SSL_get_error, SSL_get_rbio, SSL_get_wbio, SSL_has_pending,
    SSL_new, SSL_peek_ex, SSL_read_ex, SSL_session_reused, SSL_set_accept_state,
    SSL_set_bio, SSL_set_connect_state, SSL_set_session, SSL_set_tlsext_host_name,
    SSL_shutdown, SSL_write_ex, X509_VERIFY_PARAM_set1_host,
    X509_VERIFY_PARAM_set1_ip_asc,
)
from fastpath.tls.refusal cimport refusal_say

cdef enum:
    RECORD_BYTES = 16384  # of TLS, at most


# Errors of an earlier call would be taken for those of the next.
cdef inline void forget_errors() noexcept nogil:
    if ERR_peek_error() != 0:
        ERR_clear_error()


# What precedes each call of OpenSSL that reads or writes: it makes buffers.
cdef inline void begin(transport_t* t) noexcept nogil:
    forget_errors()
    if not buffers_held(t.buffers, t.ssl, t.place):
        buffers_keep(t.buffers, t.ssl, &t.place)


# Take the errors; return the one that says most. The first may be about some detail;
# the last is, since OpenSSL 3.2, often only that there was one before.
cdef unsigned long take_errors() noexcept nogil:
    cdef unsigned long said = 0
    cdef unsigned long error = ERR_get_error()

    while error != 0:
        if said == 0 or ERR_GET_REASON(error) != SSL_R_RECORD_LAYER_FAILURE:
            said = error
        error = ERR_get_error()
    return said


# What a call of OpenSSL that did not succeed says: -EAGAIN, 0 = the peer has ended its
# side, or another -errno. `code` is the errno that it left.
cdef int settle(transport_t* t, int result, int code) noexcept nogil:
    cdef int kind = SSL_get_error(t.ssl, result)

    if wire_flooded(SSL_get_rbio(t.ssl)):
        ERR_clear_error()
        t.failed = -EPROTO
        return -EPROTO
    if kind == SSL_ERROR_WANT_READ:
        t.end.readable = 0
        return -EAGAIN
    if kind == SSL_ERROR_WANT_WRITE:
        t.end.writable = 0
        return -EAGAIN
    if kind == SSL_ERROR_ZERO_RETURN:
        t.eof = 1
        t.end.readable = 0
        return 0
    if kind == SSL_ERROR_SYSCALL and code != 0 and code != EAGAIN:
        ERR_clear_error()
        return -code
    t.error = take_errors()
    t.failed = -EPROTO
    if ERR_GET_REASON(t.error) == SSL_R_UNEXPECTED_EOF_WHILE_READING:
        t.eof = 1
        t.truncated = 1
        t.end.readable = 0
        return 0
    return -EPROTO


cdef void transport_open(transport_t* t, int fd) noexcept nogil:
    memset(t, 0, sizeof(transport_t))
    t.end.fd = fd
    t.end.readable = 1
    t.end.writable = 1


cdef int start(
    transport_t* t, SSL_CTX* context, buffers_t* buffers
) noexcept nogil:
    cdef BIO* b = wire_new(t.end.fd)

    check(t.ssl == NULL)
    t.ssl = SSL_new(context)
    if t.ssl == NULL or b == NULL:
        SSL_free(t.ssl)
        t.ssl = NULL
        BIO_free(b)
        ERR_clear_error()
        return -ENOMEM
    SSL_set_bio(t.ssl, b, b)
    t.buffers = buffers
    t.handshaking = 1
    return 0


cdef int transport_start_client(
    transport_t* t, SSL_CTX* context, buffers_t* buffers, const char* name,
    SSL_SESSION* session
) noexcept nogil:
    cdef X509_VERIFY_PARAM* param
    cdef bint fine = True

    if start(t, context, buffers) < 0:
        return -ENOMEM
    if name != NULL:
        param = SSL_get0_param(t.ssl)
        # There is no SNI for addresses: RFC 6066 3.
        if X509_VERIFY_PARAM_set1_ip_asc(param, name) != 1:
            fine = (
                X509_VERIFY_PARAM_set1_host(param, name, 0) == 1
                and SSL_set_tlsext_host_name(t.ssl, name) == 1
            )
    if not fine or (session != NULL and SSL_set_session(t.ssl, session) != 1):
        ERR_clear_error()
        SSL_free(t.ssl)
        t.ssl = NULL
        t.handshaking = 0
        return -ENOMEM
    SSL_set_connect_state(t.ssl)
    return 0


cdef int transport_start_server(
    transport_t* t, SSL_CTX* context, buffers_t* buffers
) noexcept nogil:
    if start(t, context, buffers) < 0:
        return -ENOMEM
    SSL_set_accept_state(t.ssl)
    wire_expect_hello(SSL_get_rbio(t.ssl))
    return 0


cdef int transport_met(transport_t* t) noexcept nogil:
    cdef char byte
    cdef ssize_t n

    while True:
        n = recv(t.end.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)
        if n == 1:
            return 1
        if n == 0:
            t.eof = 1
        elif errno == EINTR:
            continue
        t.end.readable = 0
        return 0 if n == 0 else -errno


cdef int transport_handshake(transport_t* t) noexcept nogil:
    cdef int result

    if not t.handshaking:
        return 1
    if t.failed:
        return t.failed
    begin(t)
    result = SSL_do_handshake(t.ssl)
    if result == 1:
        t.handshaking = 0
        wire_progress(SSL_get_rbio(t.ssl))
        t.end.readable = 1  # bytes that came along are with OpenSSL, not in the socket
        return 1
    result = settle(t, result, errno)
    if result == -EAGAIN:
        if not wire_met_plaintext(SSL_get_rbio(t.ssl)):
            return -EAGAIN
        result = -EBADMSG
    t.failed = result if result < 0 else -EPROTO
    if t.failed == -EPROTO:
        # The peer may have refused the session: offer it no more.
        tls_forget(SSL_get_SSL_CTX(t.ssl))
    return t.failed


cdef void transport_expect_plaintext(transport_t* t) noexcept nogil:
    wire_expect_plaintext(SSL_get_rbio(t.ssl))


cdef void transport_read_plaintext(
    transport_t* t, char* into, size_t size
) noexcept nogil:
    cdef ssize_t n = recv(t.end.fd, into, size - 1, MSG_DONTWAIT)
    cdef ssize_t i = 0

    while i < n and c" " <= into[i] <= c"~":
        i += 1
    into[i] = 0


cdef bint transport_met_http(const transport_t* t) noexcept nogil:
    return ERR_GET_REASON(t.error) == SSL_R_HTTP_REQUEST


cdef ssize_t transport_read_tls(transport_t* t, void* into, size_t size) noexcept nogil:
    cdef size_t taken = 0
    cdef size_t got
    cdef int result

    check(not t.handshaking)
    if t.eof:
        return 0
    if t.failed:
        return t.failed
    begin(t)
    wire_look(SSL_get_rbio(t.ssl))
    while SSL_read_ex(t.ssl, <char*>into + taken, size - taken, &got) == 1:
        taken += got
        wire_progress(SSL_get_rbio(t.ssl))
        if not SSL_has_pending(t.ssl):
            if wire_dry(SSL_get_rbio(t.ssl)) and not t.end.rdhup_seen:
                t.end.readable = 0  # as transport_read does it
            return taken
        if taken == size:
            return taken
        # More was read ahead. It costs no call, and will bring no event.
    result = settle(t, 0, errno)
    if result < 0 and result != -EAGAIN:
        t.failed = result  # after the bytes before it
    if taken > 0 and result != -EAGAIN:
        t.end.readable = 1  # the end is met by the next read: no event will come of it
    return <ssize_t>taken if taken > 0 else result


cdef ssize_t transport_write_tls(
    transport_t* t, const void* data, size_t size
) noexcept nogil:
    cdef size_t taken = 0
    cdef size_t got
    cdef int result
    cdef int code

    check(not t.handshaking)
    if t.failed:
        return t.failed
    begin(t)
    # One record at a time, but not one segment each: that costs TCP as much again.
    while taken < size:
        wire_more(SSL_get_wbio(t.ssl), size - taken > RECORD_BYTES)
        if SSL_write_ex(t.ssl, <const char*>data + taken, size - taken, &got) != 1:
            code = errno
            result = settle(t, 0, code)
            if result == -EAGAIN:
                t.end.writable = 0
                wire_push(SSL_get_wbio(t.ssl))
                return taken
            if result == 0:
                # After the peer's close_notify OpenSSL reports that, not this failure.
                result = -code if code != 0 else -EPIPE
            return <ssize_t>taken if taken > 0 else result
        taken += got
    return taken


cdef void transport_shut(transport_t* t) noexcept nogil:
    cdef int result

    if t.shut == 1 or t.end.fd == -1:
        return
    if t.ssl != NULL and not t.handshaking and not t.failed:
        begin(t)
        result = SSL_shutdown(t.ssl)
        if result < 0 and settle(t, result, errno) == -EAGAIN:
            t.shut = SHUT_LATER
            return
    t.shut = 1
    shutdown(t.end.fd, SHUT_WR)


cdef bint transport_idle_ok(transport_t* t) noexcept nogil:
    cdef char byte
    cdef size_t got
    cdef ssize_t n

    if t.end.fd == -1 or t.handshaking or t.eof or t.failed or t.shut:
        return False
    n = recv(t.end.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)
    if n == -1 and errno != EAGAIN:
        return False
    if n == 0 or t.ssl == NULL:
        return n == -1
    if n == -1 and not SSL_has_pending(t.ssl):
        return True
    # It may be a session ticket, which a server may send at any time.
    begin(t)
    if SSL_peek_ex(t.ssl, &byte, 1, &got) == 1:
        return False
    return settle(t, 0, errno) == -EAGAIN and not SSL_has_pending(t.ssl)


cdef void transport_close(transport_t* t, bint reset) noexcept nogil:
    if t.ssl != NULL:
        if not (reset or t.handshaking or t.failed or t.shut == 1):
            SSL_shutdown(t.ssl)
        buffers_leave(t.buffers, t.ssl, t.place)
        SSL_free(t.ssl)
        t.ssl = NULL
        forget_errors()
    end_close(&t.end, reset)


cdef bint transport_resumed(transport_t* t) noexcept nogil:
    return t.ssl != NULL and SSL_session_reused(t.ssl) == 1


cdef void transport_why(transport_t* t, char* into, size_t size) noexcept nogil:
    into[0] = 0
    if t.ssl != NULL and wire_flooded(SSL_get_rbio(t.ssl)):
        snprintf(into, size, b"too much that is no data")
    elif t.ssl != NULL and t.error != 0:
        refusal_say(t.ssl, t.error, t.handshaking, into, size)
