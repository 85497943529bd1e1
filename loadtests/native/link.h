/* One connection, plain or TLS, behind one pair of calls. */
#ifndef LOADTESTS_LINK_H
#define LOADTESTS_LINK_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/types.h>

/* What a call returns when it moved nothing: the peer ended cleanly, it would block,
 * or the connection is broken. */
enum { LINK_END = 0, LINK_AGAIN = -1, LINK_BROKEN = -2 };

typedef struct {
    int fd;   /* owned; -1 = closed */
    SSL* ssl; /* owned; NULL = plain */
} link_t;

/* Contexts of both sides; they end the process when a file is not good. The client's
 * verifies the chain and the name "localhost". */
SSL_CTX* tls_client(const char* ca);
SSL_CTX* tls_server(const char* pem);

/* Handshakes happen inside the first calls of link_recv and link_send. */
void link_connect(link_t* l, const struct sockaddr_in* to, SSL_CTX* tls);
void link_accept(link_t* l, int fd, SSL_CTX* tls);
ssize_t link_recv(link_t* l, void* bytes, size_t n);
/* Of the same bytes again after LINK_AGAIN; the buffer may have moved. */
ssize_t link_send(link_t* l, const void* bytes, size_t n);
void link_close(link_t* l);

#endif
