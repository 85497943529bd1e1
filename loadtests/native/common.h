/* What the load generator's client and server share. See client.c for the works. */
#ifndef LOADTESTS_COMMON_H
#define LOADTESTS_COMMON_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE 100        /* bytes of one request and of one answer */
#define MAX_PIDS 64        /* processes whose CPU is sampled */
#define MAX_CPUS 64        /* cores whose idle time is sampled */
#define BATCH 256          /* events per epoll_wait, enough for every connection */
#define CHUNK (128 * 1024) /* bytes per bulk write and half of one bulk read */

/* Prime, so that no chunk lost, doubled or swapped leaves the pattern in step. */
#define PATTERN_PERIOD 65521

/* Log-linear: 256 steps per octave keep a percentile's error under 0.4 %. */
#define HIST_STEP_BITS 8
#define HIST_BUCKETS ((44 - HIST_STEP_BITS) << HIST_STEP_BITS)

typedef struct {
    uint64_t count;
    uint32_t buckets[HIST_BUCKETS];
} hist_t;

typedef struct {
    const char* work;
    struct sockaddr_in to;
    int connections;
    int spread; /* destination addresses used in turn: to, to + 1, ... */
    int upload;
    double rate; /* offered requests per second, 0 = closed loop */
    uint64_t warm_ns;
    uint64_t measure_ns;
    int pids[MAX_PIDS];
    int pid_count;
    /* HTTP only: */
    const char* request; /* file: a request, '#' stands for a number below `names` */
    int names;
    const char* expect; /* file: the body of every answer; of a watch, its object */
    int repeat;         /* how often it stands in a body */
    const char* ca;     /* file: speak TLS and trust this; NULL = plain */
    int hold;           /* watch: once all are open wait for the end of the input */
} options_t;

typedef struct {
    uint64_t wall_ns;
    uint64_t self_ns;
    uint64_t pid_ns[MAX_PIDS];
    double idle_s[MAX_CPUS];
    double steal_s[MAX_CPUS];
    int cpus;
} cpu_t;

enum { WARMING, MEASURING, DONE };

/* The time in which work is counted; CPU is sampled at both of its edges. */
typedef struct {
    const options_t* options;
    uint64_t opens_ns;
    uint64_t closes_ns;
    int phase;
    cpu_t before;
    cpu_t after;
} window_t;

_Noreturn void die(const char* what);
uint64_t now_ns(void);

void hist_add(hist_t* h, uint64_t ns);
/* Upper bound in ns of the bucket that holds the given share (0-1) of all. */
uint64_t hist_at(const hist_t* h, double share);

void window_init(window_t* w, const options_t* o, uint64_t now);
/* Move on to the phase that `now` belongs to, and return it. */
int window_phase(window_t* w, uint64_t now);
double window_seconds(const window_t* w);
/* Print the CPU part of the result: `"wall_s": ..., "pids": {...}, ...`. */
void window_print(const window_t* w);

/* Bytes [0, PATTERN_PERIOD + 2 * CHUNK) of the stream; any offset has 2 * CHUNK
 * bytes ahead of it. The stream repeats every PATTERN_PERIOD bytes. */
const unsigned char* pattern(void);
/* Whether `n` bytes received at stream offset `at` are the right ones. */
int pattern_matches(const unsigned char* bytes, size_t n, uint64_t at);

int connect_to(const struct sockaddr_in* to);
void no_delay(int fd);

/* The works. Each prints one JSON object and returns the exit code. */
int rr_run(const options_t* o);
int crr_run(const options_t* o);
int bulk_run(const options_t* o);
int get_run(const options_t* o); /* get, list, fresh */
int watch_run(const options_t* o);
int exec_run(const options_t* o);
int udp_run(const options_t* o); /* udp, train, burst */

#endif
