/* Server behind every contender: one thread, one epoll, two listeners.
 *
 *   server [ECHO_PORT [BULK_PORT]]     prints "ready ECHO_PORT BULK_PORT"
 *
 * Echo sends back what it reads. Bulk reads one byte first: 'D' = send the pattern
 * until the client half-closes, 'U' = check what comes against the pattern and answer
 * with the number of bytes, 0 if one was wrong. For each stream that ends, "sent N" or
 * "received N" is printed, so that a stream cut short in between is found. */
#include "common.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTEN_ECHO, LISTEN_BULK, ECHO, BULK_NEW, BULK_SOURCE, BULK_SINK };

typedef struct {
    int fd;
    int kind;
    int wrong;
    uint64_t moved; /* bytes of pattern */
} peer_t;

static int epoll;

static void peer_watch(peer_t* p, uint32_t events, int how) {
    struct epoll_event e = {.events = events, .data.ptr = p};
    if (epoll_ctl(epoll, how, p->fd, &e) == -1)
        die("epoll_ctl");
}

static void peer_end(peer_t* p) {
    if (p->kind == BULK_SOURCE || p->kind == BULK_SINK) {
        printf("%s %lu\n", p->kind == BULK_SOURCE ? "sent" : "received", p->moved);
        fflush(stdout);
    }
    close(p->fd);
    free(p);
}

/* Return 0 when the peer is gone. */
static int peer_echo(peer_t* p) {
    static unsigned char buffer[64 * 1024];
    ssize_t n = recv(p->fd, buffer, sizeof buffer, 0);

    if (n == -1 && errno == EAGAIN)
        return 1;
    /* An echo that does not fit means that nobody reads: never in these works. */
    if (n > 0 && send(p->fd, buffer, (size_t)n, MSG_NOSIGNAL) == n)
        return 1;
    peer_end(p);
    return 0;
}

static void peer_source(peer_t* p, uint32_t events) {
    char rest;
    ssize_t n;

    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && recv(p->fd, &rest, 1, 0) == 0) {
        peer_end(p); /* half-closed: the queued rest and the FIN still go out */
        return;
    }
    n = send(p->fd, pattern() + p->moved % PATTERN_PERIOD, CHUNK, MSG_NOSIGNAL);
    if (n > 0)
        p->moved += (uint64_t)n;
    else if (n == -1 && errno != EAGAIN)
        peer_end(p);
}

static void peer_sink(peer_t* p) {
    static unsigned char buffer[2 * CHUNK];
    ssize_t n = recv(p->fd, buffer, sizeof buffer, 0);

    if (n > 0) {
        p->wrong |= !pattern_matches(buffer, (size_t)n, p->moved);
        p->moved += (uint64_t)n;
        return;
    }
    if (n == -1 && errno == EAGAIN)
        return;
    uint64_t verdict = p->wrong ? 0 : p->moved;
    if (n == 0)
        send(p->fd, &verdict, sizeof verdict, MSG_NOSIGNAL);
    peer_end(p);
}

static void peer_bulk_new(peer_t* p) {
    char kind;
    ssize_t n = recv(p->fd, &kind, 1, 0);

    if (n == -1 && errno == EAGAIN)
        return;
    if (n == 1 && kind == 'D') {
        p->kind = BULK_SOURCE;
        peer_watch(p, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    } else if (n == 1 && kind == 'U') {
        p->kind = BULK_SINK;
    } else {
        peer_end(p);
    }
}

static void accept_all(const peer_t* listener) {
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd == -1 && errno == ECONNABORTED)
            continue;
        if (fd == -1 && errno == EAGAIN)
            return;
        if (fd == -1)
            die("accept");
        peer_t* p = calloc(1, sizeof *p);
        p->fd = fd;
        p->kind = listener->kind == LISTEN_ECHO ? ECHO : BULK_NEW;
        no_delay(fd);
        if (p->kind == BULK_NEW)
            peer_watch(p, EPOLLIN, EPOLL_CTL_ADD);
        /* The request is often there already: one wake-up less, for everyone. Edge-
         * triggered is safe: a read is always offered more room than it fills. */
        else if (peer_echo(p))
            peer_watch(p, EPOLLIN | EPOLLET, EPOLL_CTL_ADD);
    }
}

static void handle(peer_t* p, uint32_t events) {
    switch (p->kind) {
    case LISTEN_ECHO:
    case LISTEN_BULK:
        accept_all(p);
        break;
    case ECHO:
        peer_echo(p);
        break;
    case BULK_NEW:
        peer_bulk_new(p);
        break;
    case BULK_SOURCE:
        peer_source(p, events);
        break;
    case BULK_SINK:
        peer_sink(p);
        break;
    }
}

static int listen_on(int kind, const char* port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    socklen_t size = sizeof at;
    int on = 1;
    peer_t* p = calloc(1, sizeof *p);

    p->kind = kind;
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(p->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(p->fd, (struct sockaddr*)&at, sizeof at) == -1 || listen(p->fd, 8192) == -1)
        die("listen");
    getsockname(p->fd, (struct sockaddr*)&at, &size);
    peer_watch(p, EPOLLIN, EPOLL_CTL_ADD);
    return ntohs(at.sin_port);
}

int main(int argc, char** argv) {
    struct epoll_event events[BATCH];

    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int echo = listen_on(LISTEN_ECHO, argc > 1 ? argv[1] : "0");
    int bulk = listen_on(LISTEN_BULK, argc > 2 ? argv[2] : "0");
    pattern();
    printf("ready %d %d\n", echo, bulk);
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epoll, events, BATCH, -1);
        if (n == -1 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++)
            handle(events[i].data.ptr, events[i].events);
    }
}
