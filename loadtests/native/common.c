/* Clocks, CPU accounting, histogram and the bulk pattern. */
#include "common.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

_Noreturn void die(const char* what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    /* A process that is gone has no clock any more: it counts as zero. */
    if (clock_gettime(clock, &t) == -1)
        return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

void hist_add(hist_t* h, uint64_t ns) {
    int octave = 63 - __builtin_clzll(ns | 1);
    int shift = octave > HIST_STEP_BITS ? octave - HIST_STEP_BITS : 0;
    uint64_t bucket = ((uint64_t)shift << HIST_STEP_BITS) + (ns >> shift);

    if (bucket >= HIST_BUCKETS)
        bucket = HIST_BUCKETS - 1;
    h->buckets[bucket]++;
    h->count++;
}

uint64_t hist_at(const hist_t* h, double share) {
    uint64_t wanted = (uint64_t)(share * (double)h->count);
    uint64_t seen = 0;

    for (uint64_t i = 0; i < HIST_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen <= wanted && i + 1 < HIST_BUCKETS)
            continue;
        /* The first two octaves share shift 0, see hist_add. */
        uint64_t shift = i >> HIST_STEP_BITS ? (i >> HIST_STEP_BITS) - 1 : 0;
        return ((i - (shift << HIST_STEP_BITS) + 1) << shift) - 1;
    }
    return 0;
}

/* /proc/stat has a 10 ms grain, but its idle column is exact underneath when the
 * tick stops on idle cores (NO_HZ), unlike its busy columns, which are guessed at
 * ticks. So busy time of the machine = wall - idle - steal. */
static void sample_idle(cpu_t* c) {
    char line[512];
    FILE* f = fopen("/proc/stat", "re");
    double tick_s = 1.0 / (double)sysconf(_SC_CLK_TCK);

    c->cpus = 0;
    while (f && fgets(line, sizeof line, f) && !strncmp(line, "cpu", 3)) {
        unsigned long long idle, iowait, steal;
        if (line[3] == ' ' || c->cpus == MAX_CPUS)
            continue; /* the sum over all cores */
        if (sscanf(line, "%*s %*u %*u %*u %llu %llu %*u %*u %llu", &idle, &iowait,
                   &steal) != 3)
            break;
        c->idle_s[c->cpus] = (double)(idle + iowait) * tick_s;
        c->steal_s[c->cpus++] = (double)steal * tick_s;
    }
    if (f)
        fclose(f);
}

static void sample(cpu_t* c, const options_t* o) {
    sample_idle(c);
    /* The CPU clock of a process: nanoseconds on CPU of all its threads, dead ones
     * included, as clock_getcpuclockid(3) builds it. Exact where the user and system
     * columns of /proc/PID/stat are guessed at ticks. */
    for (int i = 0; i < o->pid_count; i++)
        c->pid_ns[i] = clock_ns((clockid_t)(((unsigned)~o->pids[i] << 3) | 2));
    c->self_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    c->wall_ns = now_ns();
}

void window_init(window_t* w, const options_t* o, uint64_t now) {
    w->options = o;
    w->opens_ns = now + o->warm_ns;
    w->closes_ns = w->opens_ns + o->measure_ns;
    w->phase = WARMING;
}

int window_phase(window_t* w, uint64_t now) {
    if (w->phase == WARMING && now >= w->opens_ns) {
        sample(&w->before, w->options);
        w->phase = MEASURING;
    } else if (w->phase == MEASURING && now >= w->closes_ns) {
        sample(&w->after, w->options);
        w->phase = DONE;
    }
    return w->phase;
}

double window_seconds(const window_t* w) {
    return (double)(w->after.wall_ns - w->before.wall_ns) / 1e9;
}

void window_print(const window_t* w) {
    const cpu_t *a = &w->before, *b = &w->after;

    printf("\"wall_s\": %.6f, \"client_s\": %.6f, \"pids\": {", window_seconds(w),
           (double)(b->self_ns - a->self_ns) / 1e9);
    for (int i = 0; i < w->options->pid_count; i++)
        printf("%s\"%d\": %.6f", i ? ", " : "", w->options->pids[i],
               (double)(b->pid_ns[i] - a->pid_ns[i]) / 1e9);
    printf("}, \"idle_s\": [");
    for (int i = 0; i < b->cpus; i++)
        printf("%s%.3f", i ? ", " : "", b->idle_s[i] - a->idle_s[i]);
    printf("], \"steal_s\": [");
    for (int i = 0; i < b->cpus; i++)
        printf("%s%.3f", i ? ", " : "", b->steal_s[i] - a->steal_s[i]);
    printf("]");
}

const unsigned char* pattern(void) {
    static unsigned char bytes[PATTERN_PERIOD + 2 * CHUNK];
    static int made;
    uint64_t x = 0x9e3779b97f4a7c15u; /* xorshift64, same seed on both sides */

    if (made)
        return bytes;
    for (size_t i = 0; i < PATTERN_PERIOD; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes[i] = (unsigned char)(x >> 32);
    }
    for (size_t i = PATTERN_PERIOD; i < sizeof bytes; i++)
        bytes[i] = bytes[i - PATTERN_PERIOD];
    made = 1;
    return bytes;
}

/* Comparing with the expected bytes finds every error that a digest finds, and costs
 * one pass through the L2 cache; a digest would cost the same pass and arithmetic. */
int pattern_matches(const unsigned char* bytes, size_t n, uint64_t at) {
    return memcmp(bytes, pattern() + at % PATTERN_PERIOD, n) == 0;
}

int connect_to(const struct sockaddr_in* to) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd == -1)
        die("socket");
    if (connect(fd, (const struct sockaddr*)to, sizeof *to) == -1 &&
        errno != EINPROGRESS)
        die("connect");
    return fd;
}

void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}
