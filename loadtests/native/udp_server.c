/* Echo of datagrams, in batches: prints "ready PORT PORT" and runs until it is killed.
 *
 *   udp_server [ADDRESS]     where it listens, 127.0.0.1 unless told
 *
 * Both ports echo. What arrives as a train (UDP_GRO) goes back as one (UDP_SEGMENT) on
 * the first; on the second each datagram comes and goes by itself. */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

#define SLOTS 64
#define SLOT_BYTES 65536
#define BUFFER_BYTES (8 << 20)

typedef struct {
    struct mmsghdr in[SLOTS];
    struct iovec parts[SLOTS];
    struct sockaddr_in names[SLOTS];
    char control[SLOTS][CMSG_SPACE(sizeof(int))];
} batch_t;

static int open_port(const char* host, int trains, uint16_t* port) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = BUFFER_BYTES;
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;

    if (inet_pton(AF_INET, host, &at.sin_addr) != 1)
        die(host);
    if (fd == -1 || bind(fd, (struct sockaddr*)&at, size) == -1 ||
        getsockname(fd, (struct sockaddr*)&at, &size) == -1)
        die("bind");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(fd, IPPROTO_UDP, UDP_GRO, &trains, sizeof trains);
    *port = ntohs(at.sin_port);
    return fd;
}

static void echo(int fd, batch_t* b) {
    for (int i = 0; i < SLOTS; i++) {
        b->parts[i].iov_len = SLOT_BYTES;
        b->in[i].msg_hdr = (struct msghdr){
            .msg_name = &b->names[i], .msg_namelen = sizeof b->names[i],
            .msg_iov = &b->parts[i], .msg_iovlen = 1,
            .msg_control = b->control[i], .msg_controllen = sizeof b->control[i]};
    }
    int n = recvmmsg(fd, b->in, SLOTS, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n; i++) {
        struct msghdr* h = &b->in[i].msg_hdr;
        struct cmsghdr* m = h->msg_controllen ? CMSG_FIRSTHDR(h) : NULL;
        b->parts[i].iov_len = b->in[i].msg_len;
        if (m && m->cmsg_type == UDP_GRO) {
            int segment;
            memcpy(&segment, CMSG_DATA(m), sizeof segment);
            m->cmsg_type = UDP_SEGMENT;
            m->cmsg_len = CMSG_LEN(sizeof(uint16_t));
            *(uint16_t*)(void*)CMSG_DATA(m) = (uint16_t)segment;
            h->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
        } else {
            h->msg_control = NULL;
            h->msg_controllen = 0;
        }
    }
    for (int at = 0; at < n;) {
        int sent = sendmmsg(fd, b->in + at, (unsigned)(n - at), 0);
        at += sent > 0 ? sent : 1;
    }
}

int main(int argc, char** argv) {
    const char* host = argc > 1 ? argv[1] : "127.0.0.1";
    batch_t* b = calloc(1, sizeof *b);
    uint16_t ports[2];
    struct pollfd fds[2] = {{.fd = open_port(host, 1, &ports[0]), .events = POLLIN},
                            {.fd = open_port(host, 0, &ports[1]), .events = POLLIN}};

    for (int i = 0; i < SLOTS; i++)
        b->parts[i].iov_base = malloc(SLOT_BYTES + 256);
    printf("ready %d %d\n", ports[0], ports[1]);
    fflush(stdout);
    for (;;) {
        if (poll(fds, 2, -1) == -1 && errno != EINTR)
            die("poll");
        for (int i = 0; i < 2; i++)
            if (fds[i].revents)
                echo(fds[i].fd, b);
    }
}
