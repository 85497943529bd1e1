/* Making, stamping and checking watch events. */
#include "event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEFORE_SEQUENCE "{\"type\":\"MODIFIED\",\"sequence\":\""
#define BEFORE_NS "\",\"ns\":\""
#define BEFORE_OBJECT "\",\"object\":"
#define SEQUENCE_AT (sizeof BEFORE_SEQUENCE - 1)
#define SEQUENCE_WIDTH 12
#define NS_AT (SEQUENCE_AT + SEQUENCE_WIDTH + sizeof BEFORE_NS - 1)
#define NS_WIDTH 20

text_t event_make(const text_t* object) {
    text_t e = {.bytes = malloc(object->size + 128)};

    e.size = (size_t)sprintf(e.bytes, "%s%0*d%s%0*d%s%s}\n", BEFORE_SEQUENCE,
                             SEQUENCE_WIDTH, 0, BEFORE_NS, NS_WIDTH, 0, BEFORE_OBJECT,
                             object->bytes);
    return e;
}

static void put(char* at, int width, uint64_t value) {
    for (int i = width - 1; i >= 0; i--, value /= 10)
        at[i] = (char)('0' + value % 10);
}

void event_stamp(char* event, uint64_t sequence, uint64_t ns) {
    put(event + SEQUENCE_AT, SEQUENCE_WIDTH, sequence);
    put(event + NS_AT, NS_WIDTH, ns);
}

int event_matches(const char* event, text_t* blank, uint64_t sequence, uint64_t* ns) {
    *ns = strtoull(event + NS_AT, NULL, 10);
    event_stamp(blank->bytes, sequence, *ns);
    return !memcmp(event, blank->bytes, blank->size);
}
