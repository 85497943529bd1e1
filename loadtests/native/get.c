/* Requests over HTTP, every body compared with what it should be.
 *
 *   get    over kept connections, closed loop, or open loop with --rate
 *   list   the same; units are bytes of bodies
 *   fresh  a connection per request, closed by the client after the answer
 *
 * Open loop: moments are drawn beforehand, as in rr.c. A request takes whichever
 * connection has been free for longest; where all are busy it waits, and that wait is
 * part of its latency. Nothing is pipelined: neither do HTTP clients of today. */
#include "common.h"
#include "http.h"
#include "link.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>

#define HANDSHAKE_NS 1000000u /* of both sides, with room */

typedef struct client {
    link_t link;
    answer_t answer;
    size_t at;       /* of the body, compared so far */
    int wrong;       /* a byte of it */
    int busy;        /* a request is on its way, or its answer */
    int sent;
    uint64_t due_ns;
    const text_t* request;
    struct client* next; /* that became free after this one */
} client_t;

typedef struct {
    const options_t* options;
    SSL_CTX* tls;
    text_t expect;
    size_t whole; /* bytes of a body: `expect`, --repeat times */
    text_t* requests;
    window_t window;
    hist_t latency;
    uint64_t answers;
    uint64_t bytes;      /* of bodies; both within the window */
    uint64_t lost;       /* kept connections that ended early */
    uint64_t wrong;      /* answers */
    uint64_t failed_all; /* fresh connections, warm-up included */
    uint64_t due_ns;     /* open loop: when the next request leaves */
    uint64_t dice;
    uint32_t turn; /* whose name is next */
    client_t *free_first, *free_last;
    int fresh;
    int epoll;
} get_t;

static get_t g;

static void client_open(client_t* c) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};

    link_connect(&c->link, &g.options->to, g.tls);
    answer_reset(&c->answer);
    c->busy = c->sent = 0;
    if (epoll_ctl(g.epoll, EPOLL_CTL_ADD, c->link.fd, &e) == -1)
        die("epoll_ctl");
}

static void client_send(client_t* c) {
    /* A request is smaller than any socket's buffer: all of it goes, or nothing. */
    if (!c->busy || c->sent)
        return;
    if (link_send(&c->link, c->request->bytes, c->request->size) > 0)
        c->sent = 1;
}

static void client_ask(client_t* c, uint64_t due_ns) {
    c->request = &g.requests[g.turn++ % (uint32_t)g.options->names];
    c->due_ns = due_ns;
    c->at = 0;
    c->wrong = 0;
    c->busy = 1;
    c->sent = 0;
    answer_reset(&c->answer);
    client_send(c);
}

static void client_body(void* of, const char* bytes, size_t n) {
    client_t* c = of;

    if (g.window.phase == MEASURING)
        g.bytes += n;
    while (n && !c->wrong) {
        size_t from = c->at % g.expect.size, rest = g.expect.size - from;
        size_t slice = n < rest ? n : rest;
        if (c->at >= g.whole || memcmp(g.expect.bytes + from, bytes, slice))
            c->wrong = 1;
        c->at += slice;
        bytes += slice;
        n -= slice;
    }
}

static void client_free(client_t* c) {
    c->next = NULL;
    if (g.free_last)
        g.free_last->next = c;
    else
        g.free_first = c;
    g.free_last = c;
}

static void client_lose(client_t* c) {
    link_close(&c->link);
    if (!g.fresh) {
        g.lost++;
        return;
    }
    g.failed_all++;
    if (g.window.phase != DONE) {
        client_open(c);
        client_ask(c, now_ns());
    }
}

static void client_done(client_t* c) {
    uint64_t now = now_ns();

    g.wrong += c->wrong || c->answer.status != 200 || c->at != g.whole;
    if (g.window.phase == MEASURING) {
        g.answers++;
        hist_add(&g.latency, now - c->due_ns);
    }
    c->busy = 0;
    if (g.options->rate > 0) {
        client_free(c);
        return;
    }
    if (g.fresh) {
        link_close(&c->link);
        now = now_ns();
        if (g.window.phase != DONE)
            client_open(c);
    }
    if (c->link.fd != -1)
        client_ask(c, now);
}

static void client_event(client_t* c) {
    static char buffer[2 * CHUNK];

    if (c->link.fd == -1)
        return;
    client_send(c);
    for (;;) {
        ssize_t n = link_recv(&c->link, buffer, sizeof buffer);
        if (n == LINK_AGAIN)
            break;
        if (n <= 0) {
            client_lose(c);
            return;
        }
        size_t taken = answer_feed(&c->answer, buffer, (size_t)n, client_body, c);
        if (taken < (size_t)n || !c->busy || c->answer.state == BAD) {
            g.wrong++; /* more than was asked for, or not HTTP */
            client_lose(c);
            return;
        }
        if (c->answer.state == WHOLE) {
            client_done(c); /* what comes next brings an event of its own */
            return;
        }
    }
    client_send(c); /* where the handshake ended just now */
}

/* Exponential gaps from a fixed seed, see rr.c. */
static uint64_t gap_ns(void) {
    g.dice ^= g.dice << 13;
    g.dice ^= g.dice >> 7;
    g.dice ^= g.dice << 17;
    double uniform = ((double)(g.dice >> 11) + 1.0) / 9007199254740993.0;
    return (uint64_t)(-log(uniform) * 1e9 / g.options->rate);
}

static void ask_due(void) {
    while (g.free_first && g.due_ns <= now_ns()) {
        client_t* c = g.free_first;
        g.free_first = c->next;
        if (!g.free_first)
            g.free_last = NULL;
        if (c->link.fd == -1)
            continue;
        client_ask(c, g.due_ns);
        g.due_ns += gap_ns();
    }
}

static int wait_events(struct epoll_event* events) {
    uint64_t now = now_ns(), wake = now + 10000000;
    struct timespec t = {0};

    if (g.options->rate > 0 && g.free_first && g.due_ns < wake)
        wake = g.due_ns;
    if (wake > now)
        t.tv_nsec = (long)(wake - now);
    return epoll_pwait2(g.epoll, events, BATCH, &t, NULL);
}

static void get_print(int list) {
    const hist_t* h = &g.latency;

    printf("{\"units\": %lu, \"lost\": %lu, \"wrong\": %lu, \"failed_all\": %lu, "
           "\"p50_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f, ",
           list ? g.bytes : g.answers, g.lost, g.wrong, g.failed_all,
           (double)hist_at(h, 0.5) / 1e3, (double)hist_at(h, 0.99) / 1e3,
           (double)hist_at(h, 0.999) / 1e3);
    window_print(&g.window);
    printf("}\n");
}

static void get_start(const options_t* o, client_t* clients) {
    text_t template = text_read(o->request);

    g.options = o;
    g.fresh = !strcmp(o->work, "fresh");
    g.dice = 0x2545f4914f6cdd1du;
    g.tls = o->ca ? tls_client(o->ca) : NULL;
    g.expect = text_read(o->expect);
    g.whole = g.expect.size * (size_t)o->repeat;
    g.requests = text_expand(&template, o->names);
    g.epoll = epoll_create1(EPOLL_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    for (int i = 0; i < o->connections; i++) {
        client_open(&clients[i]);
        if (o->rate > 0)
            client_free(&clients[i]);
        else
            client_ask(&clients[i], now_ns());
    }
    g.due_ns = now_ns();
    window_init(&g.window, o, g.due_ns);
    /* Thousands of handshakes first, or their time would be the first requests'. */
    if (g.tls)
        g.due_ns += (uint64_t)o->connections * HANDSHAKE_NS;
}

int get_run(const options_t* o) {
    client_t* clients = calloc((size_t)o->connections, sizeof *clients);
    struct epoll_event events[BATCH];

    if (!o->expect)
        die("--expect");
    get_start(o, clients);
    while (window_phase(&g.window, now_ns()) != DONE) {
        if (o->rate > 0)
            ask_due();
        int n = wait_events(events);
        for (int i = 0; i < n; i++)
            client_event(events[i].data.ptr);
    }
    get_print(!strcmp(o->work, "list"));
    return 0;
}
