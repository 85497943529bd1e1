/* Connect, one request, its answer, close: new connections per second.
 *
 * The client closes first, at once after the answer, as curl and kubectl do; a
 * connection counts when its answer has arrived. Because a fixed number of
 * connections is kept going, what a proxy puts off until after the answer (passing
 * the FIN on, freeing) is paid within the window all the same.
 *
 * TIME_WAIT: destinations are used in turn (127.0.0.1, .2, ...: the proxy listens on
 * all of them), each with source ports of its own; the namespace has a wide port
 * range and a cap on TIME_WAIT (netns.py). The same holds for every contender. */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    int fd;
    int sent;
    uint64_t opened_ns;
} try_t;

typedef struct {
    const options_t* options;
    window_t window;
    hist_t latency;
    uint64_t done;
    uint64_t failed;     /* within the window */
    uint64_t failed_all; /* warm-up included: none may hide there */
    uint32_t turn;
    int epoll;
} crr_t;

static void try_open(crr_t* r, try_t* t);

static void try_end(crr_t* r, try_t* t, int good) {
    if (r->window.phase == MEASURING) {
        r->done += (uint64_t)good;
        r->failed += (uint64_t)!good;
        if (good)
            hist_add(&r->latency, now_ns() - t->opened_ns);
    }
    r->failed_all += (uint64_t)!good;
    close(t->fd);
    if (r->window.phase != DONE)
        try_open(r, t);
}

static int try_send(try_t* t) {
    static const unsigned char request[MESSAGE];
    ssize_t n = send(t->fd, request, MESSAGE, MSG_NOSIGNAL);

    t->sent = n == MESSAGE;
    return n == MESSAGE || (n == -1 && (errno == EAGAIN || errno == ENOTCONN));
}

static void try_open(crr_t* r, try_t* t) {
    struct sockaddr_in to = r->options->to;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = t};

    to.sin_addr.s_addr = htonl(ntohl(to.sin_addr.s_addr) +
                               r->turn++ % (uint32_t)r->options->spread);
    t->opened_ns = now_ns();
    t->fd = connect_to(&to);
    /* On loopback the handshake is mostly over when connect() returns. A failed send
     * also ends in the error event that this registration brings. */
    if (try_send(t) && t->sent)
        e.events = EPOLLIN | EPOLLET;
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, t->fd, &e) == -1)
        die("epoll_ctl");
}

static void try_event(crr_t* r, try_t* t) {
    unsigned char answer[2 * MESSAGE];

    if (!t->sent) {
        if (!try_send(t))
            try_end(r, t, 0);
        return;
    }
    ssize_t n = recv(t->fd, answer, sizeof answer, 0);
    if (n == -1 && errno == EAGAIN)
        return;
    try_end(r, t, n == MESSAGE);
}

static void crr_print(const crr_t* r) {
    printf("{\"units\": %lu, \"failed\": %lu, \"failed_all\": %lu, "
           "\"p50_us\": %.3f, \"p99_us\": %.3f, ",
           r->done, r->failed, r->failed_all, (double)hist_at(&r->latency, 0.5) / 1e3,
           (double)hist_at(&r->latency, 0.99) / 1e3);
    window_print(&r->window);
    printf("}\n");
}

int crr_run(const options_t* o) {
    static crr_t r;
    struct epoll_event events[BATCH];
    try_t* tries = calloc((size_t)o->connections, sizeof *tries);

    r.options = o;
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    window_init(&r.window, o, now_ns());
    for (int i = 0; i < o->connections; i++)
        try_open(&r, &tries[i]);
    while (window_phase(&r.window, now_ns()) != DONE) {
        int n = epoll_wait(r.epoll, events, BATCH, 10);
        for (int i = 0; i < n; i++)
            try_event(&r, events[i].data.ptr);
    }
    crr_print(&r);
    free(tries);
    return 0;
}
