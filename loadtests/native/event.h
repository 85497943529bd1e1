/* Watch events: all of one size, so that a reader knows where each begins.
 *
 *   {"type":"MODIFIED","sequence":"SSSSSSSSSSSS","ns":"NNNNNNNNNNNNNNNNNNNN",
 *    "object":OBJECT}\n                                   (in one line) */
#ifndef LOADTESTS_EVENT_H
#define LOADTESTS_EVENT_H

#include "http.h"

#define ACTIVE_EVERY 10    /* one watch in ten gets events ... */
#define EVENTS_PER_WATCH 100 /* ... this many per second */

/* An event with this object, its numbers still to be stamped. */
text_t event_make(const text_t* object);
/* `event` points to the first byte of one. The time is CLOCK_MONOTONIC's. */
void event_stamp(char* event, uint64_t sequence, uint64_t ns);
/* Whether it is the one expected, apart from its time, which goes to *ns. `blank` is a
 * scratch event of event_make. */
int event_matches(const char* event, text_t* blank, uint64_t sequence, uint64_t* ns);

#endif
