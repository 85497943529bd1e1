/* The API server behind every contender: TLS 1.3, HTTP/1.1, one thread, one epoll.
 *
 *   upstream PEM TOKEN SMALL LIST GZIP [ADDRESS]      prints "ready PORT"
 *
 * Instead of PEM "-": plain HTTP. Instead of TOKEN "-": a pod behind a bastion, which
 * refuses those that show any Authorization at all.
 *
 * Answers, by what stands in the request line:
 *   watch=         an endless chunked body; watch n=N gets events if N ends in 0
 *   /exec          101, then the pattern both ways
 *   /auth          200 and no body: an authorization service that allows
 *   /big/          LIST, BIG_TIMES times, in one sized body
 *   /once/         SMALL, and the connection is closed
 *   /pods/         SMALL
 *   else           LIST, or GZIP to who accepts that, chunked as kube-apiserver does
 * Whoever does not show the token and an X-Forwarded-For is refused with 401.
 * "stats" on standard input is answered with "stats ACCEPTED RESUMED REQUESTS REFUSED
 * STUCK"; stuck are events that found their watch blocked and were put off. */
#include "common.h"
#include "event.h"
#include "http.h"
#include "link.h"
#include "whole.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BIG_TIMES 100
#define RECORD 4096 /* net/http flushes a buffer of this size: its TLS records */
#define GZIP_CHUNK 2048 /* and what is written piecemeal to it has such chunks */
#define MAX_ACTIVE 1024
#define BEHIND_NS 100000000u /* events that are later than this are not made up for */

enum { LISTENER, INPUT, REQUESTS, WATCH, STREAM };

typedef struct {
    link_t link;
    int kind;
    int greeted;     /* the handshake is over */
    int last;        /* close when `out` is sent */
    const char* out; /* being sent; borrowed, or `own` */
    size_t left;
    int again; /* how often LIST follows once more */
    char* own; /* an event that did not go at once */
    uint64_t sequence;
    uint64_t in, sent; /* bytes of pattern */
    size_t have;
    char part[MAX_HEAD]; /* of a request */
} peer_t;

static struct {
    SSL_CTX* tls;
    const char* token;
    text_t small, once, list, gzip, refusal, yes; /* whole answers */
    text_t big_head, body;                        /* of /big/ */
    text_t chunk;                            /* one event, framed */
    size_t event_at;                         /* in it */
    peer_t* active[MAX_ACTIVE];
    int active_count;
    int turn;
    uint64_t due_ns; /* of the next event */
    uint64_t accepted, resumed, requests, refused, stuck;
    int epoll;
} u;

static void watch_for(peer_t* p, uint32_t events, int how) {
    struct epoll_event e = {.events = events, .data.ptr = p};
    if (epoll_ctl(u.epoll, how, p->link.fd, &e) == -1)
        die("epoll_ctl");
}

static void peer_end(peer_t* p) {
    for (int i = 0; i < u.active_count; i++)
        if (u.active[i] == p)
            u.active[i] = u.active[--u.active_count];
    link_close(&p->link);
    free(p->own);
    free(p);
}

static void say(peer_t* p, const text_t* answer) {
    p->out = answer->bytes;
    p->left = answer->size;
}

/* Return 0 when the peer is gone. */
static int peer_flush(peer_t* p) {
    while (p->left || p->again) {
        if (!p->left) {
            p->again--;
            say(p, &u.body);
        }
        size_t size = !u.tls || p->left < RECORD ? p->left : RECORD;
        ssize_t n = link_send(&p->link, p->out, size);
        if (n == LINK_AGAIN)
            return 1;
        if (n < 0) {
            peer_end(p);
            return 0;
        }
        p->out += n;
        p->left -= (size_t)n;
    }
    if (!p->last)
        return 1;
    peer_end(p);
    return 0;
}

static int authorized(const char* head, size_t n) {
    static const char scheme[] = " Bearer ";
    const char* value = head_value(head, n, "\r\nauthorization:");

    if (!strcmp(u.token, "-"))
        return !value && head_value(head, n, "\r\nx-forwarded-for:");
    if (!value || strncmp(value, scheme, sizeof scheme - 1))
        return 0;
    value += sizeof scheme - 1;
    return !strncmp(value, u.token, strlen(u.token)) &&
           head_value(head, n, "\r\nx-forwarded-for:");
}

static void become_watch(peer_t* p, const char* query) {
    static const text_t head = {
        .bytes = "HTTP/1.1 200 OK\r\nCache-Control: no-cache, private\r\n"
                 "Content-Type: application/json\r\n"
                 "Transfer-Encoding: chunked\r\n\r\n"};
    const char* number = strstr(query, "&n=");
    text_t whole = {.bytes = head.bytes, .size = strlen(head.bytes)};

    p->kind = WATCH;
    say(p, &whole);
    if (number && atoi(number + 3) % ACTIVE_EVERY == 0 && u.active_count < MAX_ACTIVE)
        u.active[u.active_count++] = p;
}

static void become_stream(peer_t* p, const char* head, size_t n) {
    static const text_t answer = {
        .bytes = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                 "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
                 "\r\n"};
    text_t whole = {.bytes = answer.bytes, .size = strlen(answer.bytes)};

    if (!head_value(head, n, "\r\nupgrade:")) {
        u.refused++;
        say(p, &u.refusal);
        return;
    }
    p->kind = STREAM;
    say(p, &whole);
    /* One read and one write per turn keep the streams even. */
    watch_for(p, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
}

/* `head` ends with a zero instead of its last byte. */
static void route(peer_t* p, const char* head, size_t n) {
    char line[512];
    size_t length = strcspn(head, "\r");
    const char* accepts = head_value(head, n, "\r\naccept-encoding:");

    snprintf(line, sizeof line, "%.*s", (int)length, head);
    u.requests++;
    if (!authorized(head, n)) {
        u.refused++;
        say(p, &u.refusal);
    } else if (strstr(line, " /auth")) {
        say(p, &u.yes);
    } else if (strstr(line, "/big/")) {
        p->again = BIG_TIMES;
        say(p, &u.big_head);
    } else if (strstr(line, "watch=")) {
        become_watch(p, line);
    } else if (strstr(line, "/exec")) {
        become_stream(p, head, n);
    } else if (strstr(line, "/once/")) {
        p->last = 1;
        say(p, &u.once);
    } else if (strstr(line, "/pods/")) {
        say(p, &u.small);
    } else {
        say(p, accepts && !strncasecmp(accepts, " gzip", 5) ? &u.gzip : &u.list);
    }
}

/* Answer what is in `part`, one request at a time. Return 0 when the peer is gone. */
static int peer_answer(peer_t* p) {
    while (!p->left && !p->again && p->kind == REQUESTS) {
        char* end = memmem(p->part, p->have, "\r\n\r\n", 4);
        if (!end)
            return 1;
        size_t size = (size_t)(end - p->part) + 4;
        end[3] = 0;
        route(p, p->part, size - 1);
        p->have -= size;
        memmove(p->part, p->part + size, p->have);
        if (!peer_flush(p))
            return 0;
    }
    return 1;
}

static void peer_greet(peer_t* p) {
    if (p->greeted)
        return;
    p->greeted = 1;
    if (p->link.ssl)
        u.resumed += (uint64_t)SSL_session_reused(p->link.ssl);
}

static void peer_requests(peer_t* p) {
    if (!peer_flush(p) || !peer_answer(p))
        return;
    while (p->kind == REQUESTS && !p->left && !p->again && p->have < sizeof p->part) {
        size_t room = sizeof p->part - p->have;
        ssize_t n = link_recv(&p->link, p->part + p->have, room);
        if (n == LINK_AGAIN)
            return;
        if (n <= 0) {
            peer_end(p);
            return;
        }
        peer_greet(p);
        p->have += (size_t)n;
        if (!peer_answer(p))
            return;
        /* Nobody pipelines here: what comes next brings an event of its own. */
        if (!p->have && !(p->link.ssl && SSL_has_pending(p->link.ssl)))
            return;
    }
}

/* A watcher says nothing any more, but it may leave. */
static void peer_watch(peer_t* p) {
    char rest[256];
    ssize_t n;

    if (!peer_flush(p))
        return;
    while ((n = link_recv(&p->link, rest, sizeof rest)) > 0)
        ;
    if (n != LINK_AGAIN)
        peer_end(p);
}

static void peer_stream(peer_t* p) {
    static unsigned char buffer[64 * 1024];
    ssize_t n;

    if (p->left && (!peer_flush(p) || p->left))
        return;
    n = link_recv(&p->link, buffer, sizeof buffer);
    if (n != LINK_AGAIN && (n <= 0 || !pattern_matches(buffer, (size_t)n, p->in))) {
        peer_end(p); /* the client takes an early end for an error */
        return;
    }
    p->in += n > 0 ? (uint64_t)n : 0;
    n = link_send(&p->link, pattern() + p->sent % PATTERN_PERIOD, 32 * 1024);
    if (n == LINK_BROKEN)
        peer_end(p);
    else if (n > 0)
        p->sent += (uint64_t)n;
}

static void event_send(peer_t* p, uint64_t now) {
    if (p->left) {
        u.stuck++;
        return;
    }
    event_stamp(u.chunk.bytes + u.event_at, p->sequence++, now);
    say(p, &u.chunk);
    if (!peer_flush(p) || !p->left)
        return;
    if (!p->own)
        p->own = malloc(u.chunk.size);
    memcpy(p->own, p->out, p->left);
    p->out = p->own;
}

static void events_due(void) {
    uint64_t now = now_ns();

    if (now > u.due_ns + BEHIND_NS)
        u.due_ns = now;
    while (u.active_count && u.due_ns <= now) {
        event_send(u.active[u.turn++ % u.active_count], now_ns());
        if (u.active_count)
            u.due_ns += 1000000000u / (uint64_t)(EVENTS_PER_WATCH * u.active_count);
    }
}

static void accept_all(const peer_t* listener) {
    int fd;

    while ((fd = accept4(listener->link.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) !=
           -1) {
        peer_t* p = calloc(1, sizeof *p);
        p->kind = REQUESTS;
        link_accept(&p->link, fd, u.tls);
        watch_for(p, EPOLLIN | EPOLLOUT | EPOLLET, EPOLL_CTL_ADD);
        u.accepted++;
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept");
}

static void command(peer_t* input) {
    char line[64];

    if (read(STDIN_FILENO, line, sizeof line) <= 0) {
        watch_for(input, 0, EPOLL_CTL_DEL);
        return;
    }
    printf("stats %lu %lu %lu %lu %lu\n", u.accepted, u.resumed, u.requests, u.refused,
           u.stuck);
    fflush(stdout);
}

static void handle(peer_t* p) {
    switch (p->kind) {
    case LISTENER:
        accept_all(p);
        break;
    case INPUT:
        command(p);
        break;
    case REQUESTS:
        peer_requests(p);
        break;
    case WATCH:
        peer_watch(p);
        break;
    case STREAM:
        peer_stream(p);
        break;
    }
}

static int listen_at(const char* address) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    peer_t* p = calloc(1, sizeof *p);

    if (inet_pton(AF_INET, address, &at.sin_addr) != 1)
        die(address);
    p->kind = LISTENER;
    p->link.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(p->link.fd, (struct sockaddr*)&at, sizeof at) == -1 ||
        listen(p->link.fd, 8192) == -1)
        die("listen");
    getsockname(p->link.fd, (struct sockaddr*)&at, &size);
    watch_for(p, EPOLLIN, EPOLL_CTL_ADD);
    return ntohs(at.sin_port);
}

static void prepare(char** argv) {
    static const text_t no = {.bytes = "unauthorized\n", .size = 13};
    static const text_t nothing = {.bytes = ""};
    text_t small = text_read(argv[3]), list = text_read(argv[4]);
    text_t gzip = text_read(argv[5]), event = event_make(&small);

    u.tls = strcmp(argv[1], "-") ? tls_server(argv[1]) : NULL;
    u.token = argv[2];
    u.small = whole_sized("200 OK", "", &small);
    u.once = whole_sized("200 OK", "Connection: close\r\n", &small);
    u.refusal = whole_sized("401 Unauthorized", "", &no);
    u.yes = whole_sized("200 OK", "", &nothing);
    u.body = list;
    u.big_head.bytes = malloc(256);
    u.big_head.size = (size_t)sprintf(u.big_head.bytes,
                                      "HTTP/1.1 200 OK\r\n"
                                      "Content-Type: application/octet-stream\r\n"
                                      "Content-Length: %zu\r\n\r\n",
                                      BIG_TIMES * list.size);
    u.list = whole_chunked("", &list, 0);
    u.gzip = whole_chunked("Content-Encoding: gzip\r\n", &gzip, GZIP_CHUNK);
    u.chunk.bytes = malloc(event.size + 32);
    u.event_at = (size_t)sprintf(u.chunk.bytes, "%zx\r\n", event.size);
    memcpy(u.chunk.bytes + u.event_at, event.bytes, event.size);
    memcpy(u.chunk.bytes + u.event_at + event.size, "\r\n", 2);
    u.chunk.size = u.event_at + event.size + 2;
}

static void wait_events(void) {
    struct epoll_event events[BATCH];
    struct timespec t = {.tv_nsec = 10000000};
    uint64_t now = now_ns();

    if (u.active_count)
        t.tv_nsec = u.due_ns > now ? (long)(u.due_ns - now) : 0;
    int n = epoll_pwait2(u.epoll, events, BATCH, u.active_count ? &t : NULL, NULL);
    if (n == -1 && errno != EINTR)
        die("epoll_wait");
    for (int i = 0; i < n; i++)
        handle(events[i].data.ptr);
}

int main(int argc, char** argv) {
    static peer_t input = {.kind = INPUT, .link.fd = STDIN_FILENO};

    if (argc != 6 && argc != 7) {
        errno = EINVAL;
        die("upstream PEM TOKEN SMALL LIST GZIP [ADDRESS]");
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    pattern();
    prepare(argv);
    u.epoll = epoll_create1(EPOLL_CLOEXEC);
    watch_for(&input, EPOLLIN, EPOLL_CTL_ADD);
    printf("ready %d\n", listen_at(argc == 7 ? argv[6] : "127.0.0.1"));
    fflush(stdout);
    for (;;) {
        wait_events();
        if (u.active_count)
            events_due();
    }
}
