/* Clients that all connect at once and then keep sending requests of 100 bytes.
 *
 *   newcomers PORT COUNT SECONDS
 *
 * A client has one request on its way at a time. Printed as JSON: how long each waited
 * for its first answer, from the first connect(2) of all on (sorted, in us), p50, p99
 * and the longest; then how many answers came, and the p99 of later ones. */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REQUEST = 100, LATER_MOST = 1 << 22 };

typedef struct {
    int fd;
    int got;
    uint64_t asked_us; /* 0 = connecting */
    uint64_t first_us; /* 0 = no answer yet */
} client_t;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int by_value(const void* a, const void* b) {
    uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
    return x < y ? -1 : x > y;
}

static void ask(client_t* c) {
    static const char request[REQUEST] = {1};

    c->got = 0;
    c->asked_us = now_us();
    if (send(c->fd, request, REQUEST, MSG_NOSIGNAL) != REQUEST)
        die("send");
}

static void begin(client_t* c, int epoll, int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    int on = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd == -1)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr*)&to, sizeof to) == -1 && errno != EINPROGRESS)
        die("connect");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) == -1)
        die("epoll_ctl");
}

/* Return 1 when an answer is whole. */
static int answered(client_t* c) {
    char bytes[REQUEST];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);

    if (n == -1 && errno == EAGAIN)
        return 0;
    if (n <= 0)
        die("recv");
    c->got += (int)n;
    return c->got == REQUEST;
}

int main(int argc, char** argv) {
    static struct epoll_event events[256];
    int epoll = epoll_create1(0), count = argc == 4 ? atoi(argv[2]) : 0, waiting = count;
    client_t* clients = calloc((size_t)count + 1, sizeof *clients);
    uint64_t* firsts = calloc((size_t)count + 1, sizeof *firsts);
    uint64_t* later = calloc(LATER_MOST, sizeof *later);
    uint64_t answers = 0, kept = 0, began = now_us(), end;

    if (count < 1 || epoll == -1 || !clients || !firsts || !later)
        die("newcomers PORT COUNT SECONDS");
    for (int i = 0; i < count; i++)
        begin(&clients[i], epoll, atoi(argv[1]));
    end = began + (uint64_t)(atof(argv[3]) * 1e6);
    while (now_us() < end || waiting > 0) {
        int n = epoll_wait(epoll, events, 256, 100);
        for (int i = 0; i < n; i++) {
            client_t* c = events[i].data.ptr;
            if (c->asked_us == 0 && events[i].events & EPOLLOUT)
                ask(c);
            if (!(events[i].events & EPOLLIN) || !answered(c))
                continue;
            answers++;
            if (c->first_us == 0) {
                c->first_us = now_us() - began;
                firsts[count - waiting--] = c->first_us;
            } else if (kept < LATER_MOST) {
                later[kept++] = now_us() - c->asked_us;
            }
            ask(c);
        }
        if (now_us() > end + 20000000)
            die("some wait for ever");
    }
    qsort(firsts, (size_t)count, sizeof *firsts, by_value);
    qsort(later, kept, sizeof *later, by_value);
    printf("{\"p50\": %lu, \"p99\": %lu, \"longest\": %lu, \"answers\": %lu, \"later\": %lu}\n",
           firsts[count / 2], firsts[count * 99 / 100], firsts[count - 1], answers,
           kept ? later[kept * 99 / 100] : 0);
    return 0;
}
