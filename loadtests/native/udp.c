/* Datagrams: each answer is an echo, and every byte of it is checked.
 *
 *   udp     64-byte questions of many clients, one outstanding each
 *   train   trains of 1,200-byte datagrams, sent as one piece (UDP_SEGMENT), as QUIC
 *           stacks do; a client sends its next train when the echo of all is there
 *   burst   the same datagrams, sent one by one with sendmmsg(2)
 *
 * What does not come back within a second is lost, and asked for anew. */
#include "common.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

#define SMALL 64
#define LARGE 1200
#define TRAIN 40
#define PATIENCE_NS 1000000000u
#define BUFFER_BYTES (4 << 20)

typedef struct {
    uint32_t id;
    uint32_t turn;   /* of the question or train */
    uint32_t number; /* in the train */
    uint32_t spare;
} stamp_t;

typedef struct {
    int fd; /* owned */
    uint32_t id;
    uint32_t turn;
    uint32_t missing; /* of this turn */
    uint64_t seen;    /* a bit for each datagram of it */
    uint64_t asked_ns;
} client_t;

typedef struct {
    const options_t* options;
    client_t* clients;
    window_t window;
    hist_t latency;
    size_t size;    /* of a datagram */
    uint32_t count; /* of a turn */
    int one_piece;
    uint64_t answers;
    uint64_t lost;
    uint64_t wrong;
    int epoll;
} udp_t;

/* The bytes of one datagram: the stamp, then a stretch of the pattern that it names. */
static uint64_t place(const stamp_t* s) {
    return (uint64_t)s->id * 7919 + (uint64_t)s->turn * 104729 + s->number * 1201u;
}

static void fill(unsigned char* into, const stamp_t* s, size_t size) {
    memcpy(into, s, sizeof *s);
    memcpy(into + sizeof *s, pattern() + place(s) % PATTERN_PERIOD, size - sizeof *s);
}

static void ask(udp_t* u, client_t* c, uint64_t now) {
    static unsigned char bytes[TRAIN * LARGE];
    static struct mmsghdr messages[TRAIN];
    static struct iovec parts[TRAIN];
    stamp_t s = {.id = c->id, .turn = ++c->turn};

    for (s.number = 0; s.number < u->count; s.number++) {
        fill(bytes + s.number * u->size, &s, u->size);
        parts[s.number] = (struct iovec){bytes + s.number * u->size, u->size};
        messages[s.number].msg_hdr =
            (struct msghdr){.msg_iov = &parts[s.number], .msg_iovlen = 1};
    }
    c->asked_ns = now;
    c->missing = u->count;
    c->seen = 0;
    if (u->count == 1 || u->one_piece)
        send(c->fd, bytes, u->count * u->size, 0);
    else
        sendmmsg(c->fd, messages, u->count, 0);
}

static void answered(udp_t* u, client_t* c, const unsigned char* data, size_t size) {
    stamp_t s;

    memcpy(&s, data, sizeof s);
    if (size != u->size || s.id != c->id || s.number >= u->count ||
        !pattern_matches(data + sizeof s, size - sizeof s, place(&s))) {
        u->wrong++;
        return;
    }
    if (s.turn != c->turn || c->seen >> s.number & 1)
        return; /* late: it counts as lost already */
    c->seen |= (uint64_t)1 << s.number;
    c->missing--;
    if (u->window.phase == MEASURING)
        u->answers++;
}

static void readable(udp_t* u, client_t* c) {
    static unsigned char buffer[65536];
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {buffer, sizeof buffer};

    while (c->missing) {
        struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control,
                           .msg_controllen = sizeof control};
        ssize_t n = recvmsg(c->fd, &h, MSG_DONTWAIT);
        int segment = (int)n;
        if (n == -1)
            return;
        struct cmsghdr* m = CMSG_FIRSTHDR(&h);
        if (m && m->cmsg_type == UDP_GRO)
            memcpy(&segment, CMSG_DATA(m), sizeof segment);
        for (ssize_t at = 0; at < n; at += segment)
            answered(u, c, buffer + at, (size_t)(n - at < segment ? n - at : segment));
        if (n < (ssize_t)sizeof(stamp_t))
            return;
    }
    uint64_t now = now_ns();
    if (u->window.phase == MEASURING)
        hist_add(&u->latency, now - c->asked_ns);
    ask(u, c, now);
}

static void open_all(udp_t* u) {
    int room = u->count > 1 ? BUFFER_BYTES : 65536, one = 1, segment = LARGE;

    for (int i = 0; i < u->options->connections; i++) {
        client_t* c = &u->clients[i];
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        c->id = (uint32_t)i;
        c->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (c->fd == -1 ||
            connect(c->fd, (const struct sockaddr*)&u->options->to, sizeof u->options->to))
            die("connect");
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
        setsockopt(c->fd, IPPROTO_UDP, UDP_GRO, &one, sizeof one);
        if (u->one_piece &&
            setsockopt(c->fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment))
            die("UDP_SEGMENT");
        if (epoll_ctl(u->epoll, EPOLL_CTL_ADD, c->fd, &e) == -1)
            die("epoll_ctl");
        ask(u, c, now_ns());
    }
}

static void ask_again(udp_t* u, uint64_t now) {
    for (int i = 0; i < u->options->connections; i++) {
        client_t* c = &u->clients[i];
        if (now - c->asked_ns < PATIENCE_NS)
            continue;
        if (u->window.phase == MEASURING)
            u->lost += c->missing;
        ask(u, c, now);
    }
}

int udp_run(const options_t* o) {
    static udp_t u;
    struct epoll_event events[BATCH];
    uint64_t looked_ns = 0;

    u.options = o;
    u.clients = calloc((size_t)o->connections, sizeof *u.clients);
    u.size = strcmp(o->work, "udp") ? LARGE : SMALL;
    u.count = strcmp(o->work, "udp") ? TRAIN : 1;
    u.one_piece = !strcmp(o->work, "train");
    u.epoll = epoll_create1(EPOLL_CLOEXEC);
    open_all(&u);
    window_init(&u.window, o, now_ns());
    for (;;) {
        uint64_t now = now_ns();
        if (window_phase(&u.window, now) == DONE)
            break;
        if (now - looked_ns > PATIENCE_NS / 20) {
            ask_again(&u, now);
            looked_ns = now;
        }
        int n = epoll_wait(u.epoll, events, BATCH, 10);
        for (int i = 0; i < n; i++)
            readable(&u, events[i].data.ptr);
    }
    printf("{\"units\": %lu, \"lost_datagrams\": %lu, \"wrong\": %lu, \"p50_us\": %.3f, "
           "\"p99_us\": %.3f, \"p999_us\": %.3f, ",
           u.answers, u.lost, u.wrong, (double)hist_at(&u.latency, 0.5) / 1e3,
           (double)hist_at(&u.latency, 0.99) / 1e3, (double)hist_at(&u.latency, 0.999) / 1e3);
    window_print(&u.window);
    printf("}\n");
    free(u.clients);
    return 0;
}
