/* Streams through an upgraded connection, both ways at once, as an exec that copies.
 *
 * The client asks for an upgrade; after the 101 both ends send the pattern and compare
 * what comes with it. Units are bytes sent and bytes received. */
#include "common.h"
#include "http.h"
#include "link.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define PIECE (32 * 1024) /* what kubectl's copies move at once */

typedef struct {
    link_t link;
    answer_t answer;
    int sent; /* the request */
    int upgraded;
    uint64_t in, out; /* bytes of pattern */
} stream_t;

typedef struct {
    const options_t* options;
    SSL_CTX* tls;
    text_t request;
    window_t window;
    uint64_t bytes; /* within the window */
    uint64_t wrong; /* streams that ended early or had a wrong byte */
    int epoll;
} exec_t;

static exec_t x;

static void stream_fail(stream_t* s) {
    link_close(&s->link);
    x.wrong++;
}

static void count(size_t n) {
    if (x.window.phase == MEASURING)
        x.bytes += n;
}

static void stream_in(stream_t* s, const unsigned char* bytes, size_t n) {
    if (!pattern_matches(bytes, n, s->in)) {
        stream_fail(s);
        return;
    }
    s->in += n;
    count(n);
}

static void no_body(void* of, const char* bytes, size_t n) {
    (void)of, (void)bytes, (void)n;
}

static void stream_recv(stream_t* s) {
    static unsigned char buffer[2 * PIECE];
    ssize_t n = link_recv(&s->link, buffer, sizeof buffer);
    size_t head = 0;

    if (n == LINK_AGAIN)
        return;
    if (n <= 0) {
        stream_fail(s);
        return;
    }
    if (!s->upgraded) {
        head = answer_feed(&s->answer, (char*)buffer, (size_t)n, no_body, NULL);
        if (s->answer.state == HEAD)
            return;
        if (s->answer.status != 101) {
            stream_fail(s);
            return;
        }
        s->upgraded = 1;
    }
    if ((size_t)n > head)
        stream_in(s, buffer + head, (size_t)n - head);
}

static void stream_send(stream_t* s) {
    ssize_t n;

    if (!s->sent) {
        s->sent = link_send(&s->link, x.request.bytes, x.request.size) > 0;
    } else if (s->upgraded) {
        n = link_send(&s->link, pattern() + s->out % PATTERN_PERIOD, PIECE);
        if (n == LINK_BROKEN) {
            stream_fail(s);
        } else if (n > 0) {
            s->out += (uint64_t)n;
            count((size_t)n);
        }
    }
}

static void stream_open(stream_t* s) {
    /* Level-triggered: one read and one write per turn keep the streams even. */
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = s};

    link_connect(&s->link, &x.options->to, x.tls);
    if (epoll_ctl(x.epoll, EPOLL_CTL_ADD, s->link.fd, &e) == -1)
        die("epoll_ctl");
}

static void turn(void) {
    struct epoll_event events[BATCH];
    int n = epoll_wait(x.epoll, events, BATCH, 10);

    for (int i = 0; i < n; i++) {
        stream_t* s = events[i].data.ptr;
        stream_recv(s);
        if (s->link.fd != -1)
            stream_send(s);
    }
}

int exec_run(const options_t* o) {
    stream_t* streams = calloc((size_t)o->connections, sizeof *streams);

    signal(SIGPIPE, SIG_IGN);
    pattern();
    x.options = o;
    x.tls = o->ca ? tls_client(o->ca) : NULL;
    x.request = text_read(o->request);
    x.epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < o->connections; i++)
        stream_open(&streams[i]);
    window_init(&x.window, o, now_ns());
    while (window_phase(&x.window, now_ns()) != DONE)
        turn();
    /* Who moved nothing was never upgraded. */
    for (int i = 0; i < o->connections; i++)
        x.wrong += streams[i].link.fd != -1 && (!streams[i].in || !streams[i].out);
    printf("{\"units\": %lu, \"wrong\": %lu, ", x.bytes, x.wrong);
    window_print(&x.window);
    printf("}\n");
    return 0;
}
