/* Requests over kept connections: each answer is an echo of its request.
 *
 * Closed loop (rate 0): every connection sends its next request when its answer is
 * there: the highest rate. Open loop: requests leave at moments drawn beforehand, as
 * from many independent clients, whether or not answers came back; latency counts
 * from the moment at which a request should have left. So a stall shows in every
 * request that it delayed, not in one ("coordinated omission"). */
#include "common.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int fd; /* owned; -1 = lost */
    uint32_t id;
    size_t have; /* bytes in `part` */
    unsigned char part[MESSAGE];
} connection_t;

/* The request carries what the client has to know about its answer. */
typedef struct {
    uint64_t due_ns;
    uint32_t id;
} stamp_t;

typedef struct {
    const options_t* options;
    connection_t* connections;
    window_t window;
    hist_t latency;
    uint64_t answers; /* within the window, open-loop ones sent before it included */
    uint64_t lost;    /* connections that ended early */
    uint64_t wrong;   /* answers that belong to someone else */
    uint64_t due_ns;  /* open loop: when the next request leaves */
    uint64_t dice;
    uint32_t turn; /* open loop: whose turn it is */
    int epoll;
} rr_t;

static void lose(rr_t* r, connection_t* c) {
    close(c->fd);
    c->fd = -1;
    r->lost++;
}

static void ask(rr_t* r, connection_t* c, uint64_t due_ns) {
    static unsigned char request[MESSAGE];
    stamp_t stamp = {.due_ns = due_ns, .id = c->id};

    memcpy(request, &stamp, sizeof stamp);
    /* A full send buffer holds 10,000s of requests: whoever let it fill is stuck. */
    if (send(c->fd, request, MESSAGE, MSG_NOSIGNAL) != MESSAGE)
        lose(r, c);
}

static void answered(rr_t* r, connection_t* c, const unsigned char* message) {
    uint64_t now = now_ns();
    stamp_t stamp;

    memcpy(&stamp, message, sizeof stamp);
    if (stamp.id != c->id)
        r->wrong++;
    if (r->window.phase == MEASURING) {
        r->answers++;
        hist_add(&r->latency, now - stamp.due_ns);
    }
    if (r->options->rate == 0)
        ask(r, c, now);
}

static void readable(rr_t* r, connection_t* c) {
    static unsigned char buffer[64 * MESSAGE];
    ssize_t n;

    if (c->fd == -1)
        return;
    memcpy(buffer, c->part, c->have);
    n = recv(c->fd, buffer + c->have, sizeof buffer - c->have, 0);
    if (n == -1 && errno == EAGAIN)
        return;
    if (n <= 0) {
        lose(r, c);
        return;
    }
    size_t end = c->have + (size_t)n, at = 0;
    for (; end - at >= MESSAGE && c->fd != -1; at += MESSAGE)
        answered(r, c, buffer + at);
    c->have = end - at < MESSAGE ? end - at : 0;
    memcpy(c->part, buffer + at, c->have);
}

/* Exponential gaps: what the sum of many independent clients looks like. The seed is
 * fixed, so every contender meets the same moments. */
static uint64_t gap_ns(rr_t* r) {
    r->dice ^= r->dice << 13;
    r->dice ^= r->dice >> 7;
    r->dice ^= r->dice << 17;
    double uniform = ((double)(r->dice >> 11) + 1.0) / 9007199254740993.0;
    return (uint64_t)(-log(uniform) * 1e9 / r->options->rate);
}

static void ask_due(rr_t* r) {
    while (r->due_ns <= now_ns()) {
        connection_t* c = &r->connections[r->turn++ % (uint32_t)r->options->connections];
        if (c->fd != -1)
            ask(r, c, r->due_ns);
        r->due_ns += gap_ns(r);
    }
}

static void open_all(rr_t* r) {
    const options_t* o = r->options;

    r->connections = calloc((size_t)o->connections, sizeof *r->connections);
    for (int i = 0; i < o->connections; i++) {
        connection_t* c = &r->connections[i];
        c->fd = connect_to(&o->to);
        c->id = (uint32_t)i;
        no_delay(c->fd);
        struct pollfd p = {.fd = c->fd, .events = POLLOUT};
        if (poll(&p, 1, 5000) != 1)
            die("connect");
        /* Edge-triggered is safe: a read is always offered more room than it fills. */
        struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.ptr = c};
        if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, c->fd, &e) == -1)
            die("epoll_ctl");
    }
}

static int wait_events(rr_t* r, struct epoll_event* events) {
    uint64_t now = now_ns(), wake = now + 10000000;
    struct timespec t = {0};

    if (r->options->rate > 0 && r->due_ns < wake)
        wake = r->due_ns;
    if (wake > now)
        t.tv_nsec = (long)(wake - now);
    return epoll_pwait2(r->epoll, events, BATCH, &t, NULL);
}

static void rr_print(const rr_t* r) {
    const hist_t* h = &r->latency;

    printf("{\"units\": %lu, \"lost\": %lu, \"wrong\": %lu, \"p50_us\": %.3f, "
           "\"p99_us\": %.3f, \"p999_us\": %.3f, \"max_us\": %.3f, ",
           r->answers, r->lost, r->wrong, (double)hist_at(h, 0.5) / 1e3,
           (double)hist_at(h, 0.99) / 1e3, (double)hist_at(h, 0.999) / 1e3,
           (double)hist_at(h, 1.0) / 1e3);
    window_print(&r->window);
    printf("}\n");
}

int rr_run(const options_t* o) {
    static rr_t r;
    struct epoll_event events[BATCH];

    r.options = o;
    r.dice = 0x2545f4914f6cdd1du;
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    prctl(PR_SET_TIMERSLACK, 1); /* the default would add 50 us to every wake-up */
    open_all(&r);
    r.due_ns = now_ns();
    window_init(&r.window, o, r.due_ns);
    for (int i = 0; o->rate == 0 && i < o->connections; i++)
        ask(&r, &r.connections[i], now_ns());
    while (window_phase(&r.window, now_ns()) != DONE) {
        if (r.lost == (uint64_t)o->connections)
            break;
        if (o->rate > 0)
            ask_due(&r);
        int n = wait_events(&r, events);
        for (int i = 0; i < n; i++)
            readable(&r, events[i].data.ptr);
    }
    rr_print(&r);
    return 0;
}
