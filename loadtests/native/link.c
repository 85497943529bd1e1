/* Non-blocking sockets with or without OpenSSL on top. */
#include "link.h"

#include "common.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static _Noreturn void die_tls(const char* what) {
    fprintf(stderr, "%s: ", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static SSL_CTX* context(const SSL_METHOD* method) {
    SSL_CTX* c = SSL_CTX_new(method);

    /* What a kube-apiserver and Go's clients agree on; the same for everyone. */
    if (!c || !SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256"))
        die_tls("TLS");
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
    /* A record's head and its rest with one recv(2). */
    SSL_CTX_set_read_ahead(c, 1);
    return c;
}

/* Keep the newest session of a context for its next connections. */
static int session_new(SSL* ssl, SSL_SESSION* session) {
    SSL_CTX* c = SSL_get_SSL_CTX(ssl);

    SSL_SESSION_free(SSL_CTX_get_app_data(c));
    SSL_CTX_set_app_data(c, session);
    return 1; /* we own it now */
}

SSL_CTX* tls_client(const char* ca) {
    SSL_CTX* c = context(TLS_client_method());

    SSL_CTX_set_session_cache_mode(
        c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(c, session_new);

    if (SSL_CTX_load_verify_locations(c, ca, NULL) != 1)
        die_tls(ca);
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL);
    return c;
}

SSL_CTX* tls_server(const char* pem) {
    static const unsigned char id[] = "loadtests";
    SSL_CTX* c = context(TLS_server_method());

    if (SSL_CTX_use_certificate_chain_file(c, pem) != 1 ||
        SSL_CTX_use_PrivateKey_file(c, pem, SSL_FILETYPE_PEM) != 1)
        die_tls(pem);
    SSL_CTX_set_session_id_context(c, id, sizeof id);
    return c;
}

static void attach(link_t* l, SSL_CTX* tls) {
    l->ssl = tls ? SSL_new(tls) : NULL;
    if (tls && (!l->ssl || SSL_set_fd(l->ssl, l->fd) != 1))
        die_tls("SSL_new");
}

void link_connect(link_t* l, const struct sockaddr_in* to, SSL_CTX* tls) {
    l->fd = connect_to(to);
    no_delay(l->fd);
    attach(l, tls);
    if (!l->ssl)
        return;
    SSL_set_connect_state(l->ssl);
    if (SSL_set_tlsext_host_name(l->ssl, "localhost") != 1 ||
        SSL_set1_host(l->ssl, "localhost") != 1)
        die_tls("name");
    if (SSL_CTX_get_app_data(tls))
        SSL_set_session(l->ssl, SSL_CTX_get_app_data(tls));
}

void link_accept(link_t* l, int fd, SSL_CTX* tls) {
    l->fd = fd;
    no_delay(fd);
    attach(l, tls);
    if (l->ssl)
        SSL_set_accept_state(l->ssl);
}

static ssize_t tls_outcome(link_t* l, int result) {
    switch (SSL_get_error(l->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return LINK_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return LINK_END;
    default:
        ERR_clear_error(); /* or the next call on any connection would report it */
        return LINK_BROKEN;
    }
}

static ssize_t plain_outcome(ssize_t n) {
    if (n >= 0)
        return n;
    /* ENOTCONN: the handshake is under way. */
    return errno == EAGAIN || errno == ENOTCONN ? LINK_AGAIN : LINK_BROKEN;
}

ssize_t link_recv(link_t* l, void* bytes, size_t n) {
    if (!l->ssl)
        return plain_outcome(recv(l->fd, bytes, n, 0));
    int got = SSL_read(l->ssl, bytes, (int)n);
    return got > 0 ? got : tls_outcome(l, got);
}

ssize_t link_send(link_t* l, const void* bytes, size_t n) {
    if (!l->ssl)
        return plain_outcome(send(l->fd, bytes, n, MSG_NOSIGNAL));
    int put = SSL_write(l->ssl, bytes, (int)n);
    return put > 0 ? put : tls_outcome(l, put);
}

void link_close(link_t* l) {
    if (l->ssl) {
        /* Says goodbye once, as servers do, and waits for no answer. */
        if (SSL_is_init_finished(l->ssl))
            SSL_shutdown(l->ssl);
        ERR_clear_error();
        SSL_free(l->ssl);
    }
    if (l->fd != -1)
        close(l->fd);
    l->ssl = NULL;
    l->fd = -1;
}
