/* Streams in one direction, every byte compared with the pattern.
 *
 * Download: the client sends 'D', the server sends the pattern until the client
 * half-closes; the client then reads to the end. Upload: the client sends 'U' and the
 * pattern, half-closes, and the server answers with what it got (verdict_t). */
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
    int fd;
    uint64_t moved; /* bytes of pattern */
} stream_t;

typedef struct {
    const options_t* options;
    window_t window;
    uint64_t bytes; /* within the window */
    uint64_t all_bytes;
    int wrong; /* streams with a wrong byte or a wrong verdict */
    int live;
    int epoll;
} bulk_t;

static void stream_end(bulk_t* b, stream_t* s, int good) {
    close(s->fd);
    s->fd = -1;
    b->wrong += !good;
    b->live--;
}

static void count(bulk_t* b, stream_t* s, size_t n) {
    s->moved += n;
    b->all_bytes += n;
    if (b->window.phase == MEASURING)
        b->bytes += n;
}

static void download(bulk_t* b, stream_t* s) {
    static unsigned char buffer[2 * CHUNK];
    ssize_t n = recv(s->fd, buffer, sizeof buffer, 0);

    if (n == -1 && errno == EAGAIN)
        return;
    if (n <= 0) { /* an end before we asked for one is an error */
        stream_end(b, s, n == 0 && b->window.phase == DONE);
        return;
    }
    if (!pattern_matches(buffer, (size_t)n, s->moved)) {
        stream_end(b, s, 0);
        return;
    }
    count(b, s, (size_t)n);
}

static void upload(bulk_t* b, stream_t* s) {
    ssize_t n = send(s->fd, pattern() + s->moved % PATTERN_PERIOD, CHUNK, MSG_NOSIGNAL);

    if (n == -1 && errno == EAGAIN)
        return;
    if (n == -1)
        stream_end(b, s, 0);
    else
        count(b, s, (size_t)n);
}

static void verdict(bulk_t* b, stream_t* s) {
    uint64_t received = 0; /* sent by the server, 0 when it saw a wrong byte */
    ssize_t n = recv(s->fd, &received, sizeof received, 0);

    if (n == -1 && errno == EAGAIN)
        return;
    stream_end(b, s, n == sizeof received && received == s->moved);
}

static void open_all(bulk_t* b, stream_t* streams) {
    const options_t* o = b->options;
    const char* kind = o->upload ? "U" : "D";

    for (int i = 0; i < o->connections; i++) {
        stream_t* s = &streams[i];
        s->fd = connect_to(&o->to);
        while (send(s->fd, kind, 1, MSG_NOSIGNAL) != 1)
            if (errno != EAGAIN && errno != ENOTCONN)
                die("connect");
        struct epoll_event e = {.events = o->upload ? EPOLLOUT : EPOLLIN, .data.ptr = s};
        if (epoll_ctl(b->epoll, EPOLL_CTL_ADD, s->fd, &e) == -1)
            die("epoll_ctl");
    }
    b->live = o->connections;
}

static void turn(bulk_t* b, void (*handle)(bulk_t*, stream_t*)) {
    struct epoll_event events[BATCH];
    int n = epoll_wait(b->epoll, events, BATCH, 10);

    for (int i = 0; i < n; i++)
        handle(b, events[i].data.ptr);
}

static void finish(bulk_t* b, stream_t* streams) {
    uint64_t deadline = now_ns() + 5000000000u;

    for (int i = 0; i < b->options->connections; i++) {
        stream_t* s = &streams[i];
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
        if (s->fd == -1)
            continue;
        shutdown(s->fd, SHUT_WR);
        epoll_ctl(b->epoll, EPOLL_CTL_MOD, s->fd, &e);
    }
    while (b->live && now_ns() < deadline)
        turn(b, b->options->upload ? verdict : download);
    b->wrong += b->live;
}

int bulk_run(const options_t* o) {
    static bulk_t b;
    stream_t* streams = calloc((size_t)o->connections, sizeof *streams);

    b.options = o;
    b.epoll = epoll_create1(EPOLL_CLOEXEC);
    pattern();
    open_all(&b, streams);
    window_init(&b.window, o, now_ns());
    while (window_phase(&b.window, now_ns()) != DONE && b.live)
        turn(&b, o->upload ? upload : download);
    finish(&b, streams);
    printf("{\"units\": %lu, \"total\": %lu, \"wrong\": %d, ", b.bytes, b.all_bytes,
           b.wrong);
    window_print(&b.window);
    printf("}\n");
    free(streams);
    return 0;
}
