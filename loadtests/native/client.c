/* Load generator: one thread, one epoll, one JSON object as the result.
 *
 *   client rr|crr|bulk --to IPV4:PORT [--connections N] [--warm-ms N]
 *          [--measure-ms N] [--rate N] [--spread N] [--upload] [--pids PID,PID,...]
 *   client udp|train|burst --to IPV4:PORT and the first options above
 *   client get|list|fresh|watch|exec --to IPV4:PORT --request FILE [--expect FILE]
 *          [--names N] [--repeat N] [--ca FILE] [--hold] and the options above
 *
 * The processes in --pids are those whose CPU is measured over exactly the window in
 * which work is counted. */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void refuse(const char* what) {
    errno = EINVAL;
    die(what);
}

static void set_address(struct sockaddr_in* to, char* text) {
    char* colon = strrchr(text, ':');

    if (!colon)
        refuse(text);
    *colon = 0;
    to->sin_family = AF_INET;
    to->sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, text, &to->sin_addr) != 1)
        refuse(text);
}

static void set_pids(options_t* o, char* text) {
    for (char* p = strtok(text, ","); p && o->pid_count < MAX_PIDS; p = strtok(NULL, ","))
        o->pids[o->pid_count++] = atoi(p);
}

static void set_option(options_t* o, int name, char* value) {
    switch (name) {
    case 't':
        set_address(&o->to, value);
        break;
    case 'c':
        o->connections = atoi(value);
        break;
    case 'w':
        o->warm_ns = strtoull(value, NULL, 10) * 1000000u;
        break;
    case 'm':
        o->measure_ns = strtoull(value, NULL, 10) * 1000000u;
        break;
    case 'r':
        o->rate = atof(value);
        break;
    case 's':
        o->spread = atoi(value);
        break;
    case 'u':
        o->upload = 1;
        break;
    case 'p':
        set_pids(o, value);
        break;
    case 'q':
        o->request = value;
        break;
    case 'n':
        o->names = atoi(value);
        break;
    case 'e':
        o->expect = value;
        break;
    case 'x':
        o->repeat = atoi(value);
        break;
    case 'a':
        o->ca = value;
        break;
    case 'h':
        o->hold = 1;
        break;
    default:
        refuse("option");
    }
}

static const struct option names[] = {
    {"to", required_argument, NULL, 't'},      {"connections", required_argument, NULL, 'c'},
    {"warm-ms", required_argument, NULL, 'w'}, {"measure-ms", required_argument, NULL, 'm'},
    {"rate", required_argument, NULL, 'r'},    {"spread", required_argument, NULL, 's'},
    {"upload", no_argument, NULL, 'u'},        {"pids", required_argument, NULL, 'p'},    {"request", required_argument, NULL, 'q'},
    {"names", required_argument, NULL, 'n'},   {"expect", required_argument, NULL, 'e'},
    {"repeat", required_argument, NULL, 'x'},
    {"ca", required_argument, NULL, 'a'},      {"hold", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const struct {
    const char* name;
    int (*run)(const options_t* o);
    int http;
} works[] = {
    {"rr", rr_run, 0},     {"crr", crr_run, 0},   {"bulk", bulk_run, 0},
    {"get", get_run, 1},   {"list", get_run, 1},  {"fresh", get_run, 1},
    {"watch", watch_run, 1}, {"exec", exec_run, 1},
    {"udp", udp_run, 0},   {"train", udp_run, 0}, {"burst", udp_run, 0},
};

int main(int argc, char** argv) {
    options_t o = {.connections = 64,
                   .spread = 1,
                   .names = 1,
                   .repeat = 1,
                   .warm_ns = 300000000u,
                   .measure_ns = 3000000000u};
    int name;

    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1)
        set_option(&o, name, optarg);
    if (optind + 1 != argc || !o.to.sin_port || o.connections < 1 || o.spread < 1)
        refuse("client WORK --to IPV4:PORT");
    o.work = argv[optind];
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        if (strcmp(o.work, works[i].name))
            continue;
        if (works[i].http && (!o.request || o.names < 1))
            refuse("client WORK --request FILE");
        return works[i].run(&o);
    }
    refuse(o.work);
}
