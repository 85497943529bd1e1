/* Watches: many open, one in ten gets events; how late are they, are all there?
 *
 * An event carries its number within its watch and the moment at which the upstream
 * sent it. Its latency runs until the client has read its last byte. "merged" counts
 * events that came in one piece with the one before, although that was sent 10 ms
 * earlier: it was held back. A gap in the numbers, a wrong byte, or a watch that fell
 * silent counts as lost. */
#include "common.h"
#include "event.h"
#include "http.h"
#include "link.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define OPENING 32 /* watches that are being opened at any time */
#define OPEN_TIMEOUT_NS 30000000000u
#define SILENT_NS 1000000000u /* 100 events late */

typedef struct {
    link_t link;
    answer_t answer;
    const text_t* request;
    int sent;
    int headed;
    uint64_t sequence; /* of the next event */
    uint64_t seen_ns;  /* when the last one came */
    uint64_t sent_ns;  /* and when it was sent */
    char* part;        /* of an event; NULL before the first */
    size_t have;
} watch_t;

typedef struct {
    const options_t* options;
    SSL_CTX* tls;
    text_t blank; /* an event to compare with */
    text_t* requests;
    window_t window;
    hist_t latency;
    watch_t* watches;
    uint64_t turn_ns; /* when the read under way began */
    uint64_t events;
    uint64_t lost;
    uint64_t merged; /* both within the window */
    int opened;
    int headed;
    int epoll;
} watches_t;

static watches_t w;

static void event_in(watch_t* c) {
    uint64_t now = now_ns(), sent_ns;

    if (!event_matches(c->part, &w.blank, c->sequence, &sent_ns)) {
        w.lost++;
        link_close(&c->link);
        return;
    }
    if (w.window.phase == MEASURING) {
        w.events++;
        hist_add(&w.latency, now - sent_ns);
        w.merged += c->seen_ns >= w.turn_ns &&
                    sent_ns - c->sent_ns >= 500000000u / EVENTS_PER_WATCH;
    }
    c->sequence++;
    c->seen_ns = now;
    c->sent_ns = sent_ns;
}

static void watch_body(void* of, const char* bytes, size_t n) {
    watch_t* c = of;

    if (!c->part)
        c->part = malloc(w.blank.size);
    while (n && c->link.fd != -1) {
        size_t room = w.blank.size - c->have, slice = n < room ? n : room;
        memcpy(c->part + c->have, bytes, slice);
        c->have += slice;
        bytes += slice;
        n -= slice;
        if (c->have < w.blank.size)
            return;
        c->have = 0;
        event_in(c);
    }
}

static void watch_lose(watch_t* c) {
    link_close(&c->link);
    w.lost++;
    w.headed += !c->headed; /* or opening would wait for it */
    c->headed = 1;
}

static void watch_ask(watch_t* c) {
    if (!c->sent && link_send(&c->link, c->request->bytes, c->request->size) > 0)
        c->sent = 1;
}

static void watch_event(watch_t* c) {
    static char buffer[64 * 1024];

    w.turn_ns = now_ns();
    while (c->link.fd != -1) {
        watch_ask(c);
        ssize_t n = link_recv(&c->link, buffer, sizeof buffer);
        if (n == LINK_AGAIN)
            break;
        if (n <= 0) {
            watch_lose(c);
            return;
        }
        answer_feed(&c->answer, buffer, (size_t)n, watch_body, c);
        if (c->answer.state == BAD || c->answer.state == WHOLE ||
            (answer_headed(&c->answer) && c->answer.status != 200)) {
            watch_lose(c);
            return;
        }
        if (!c->headed && answer_headed(&c->answer)) {
            c->headed = 1;
            w.headed++;
        }
    }
    if (c->link.fd != -1)
        watch_ask(c);
}

static void turn(void) {
    struct epoll_event events[BATCH];
    int n = epoll_wait(w.epoll, events, BATCH, 10);

    for (int i = 0; i < n; i++)
        watch_event(events[i].data.ptr);
}

static void watch_open(watch_t* c, int number) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};

    c->request = &w.requests[number % w.options->names];
    link_connect(&c->link, &w.options->to, w.tls);
    if (epoll_ctl(w.epoll, EPOLL_CTL_ADD, c->link.fd, &e) == -1)
        die("epoll_ctl");
}

/* Return once every watch has its head: it must not wait for a first event. */
static void open_all(void) {
    int count = w.options->connections;
    uint64_t deadline = now_ns() + OPEN_TIMEOUT_NS;

    while (w.headed < count && now_ns() < deadline) {
        for (; w.opened < count && w.opened - w.headed < OPENING; w.opened++)
            watch_open(&w.watches[w.opened], w.opened);
        turn();
    }
    w.lost += (uint64_t)(count - w.headed);
}

static void find_silent(void) {
    uint64_t now = now_ns();

    for (int i = 0; i < w.options->connections; i += ACTIVE_EVERY)
        if (w.watches[i].link.fd != -1 && now - w.watches[i].seen_ns > SILENT_NS)
            w.lost++;
}

static void watch_print(void) {
    const hist_t* h = &w.latency;

    printf("{\"units\": %lu, \"lost\": %lu, \"merged\": %lu, \"p50_us\": %.3f, "
           "\"p99_us\": %.3f, \"p999_us\": %.3f, ",
           w.events, w.lost, w.merged, (double)hist_at(h, 0.5) / 1e3,
           (double)hist_at(h, 0.99) / 1e3, (double)hist_at(h, 0.999) / 1e3);
    window_print(&w.window);
    printf("}\n");
}

int watch_run(const options_t* o) {
    text_t template = text_read(o->request), object;
    char end;

    if (!o->expect)
        die("--expect");
    object = text_read(o->expect);
    signal(SIGPIPE, SIG_IGN);
    w.options = o;
    w.tls = o->ca ? tls_client(o->ca) : NULL;
    w.blank = event_make(&object);
    w.requests = text_expand(&template, o->names);
    w.watches = calloc((size_t)o->connections, sizeof *w.watches);
    w.epoll = epoll_create1(EPOLL_CLOEXEC);
    open_all();
    if (o->hold) {
        printf("ready %d\n", o->connections - (int)w.lost);
        fflush(stdout);
        return read(STDIN_FILENO, &end, 1) != 0;
    }
    window_init(&w.window, o, now_ns());
    while (window_phase(&w.window, now_ns()) != DONE)
        turn();
    turn(); /* what has come meanwhile is not missing */
    find_silent();
    watch_print();
    return 0;
}
