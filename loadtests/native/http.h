/* The client's half of HTTP/1.1: requests from a template, answers in pieces. */
#ifndef LOADTESTS_HTTP_H
#define LOADTESTS_HTTP_H

#include <stddef.h>
#include <stdint.h>

#define MAX_HEAD 8192

typedef struct {
    char* bytes; /* owned */
    size_t size;
} text_t;

/* The whole file; ends the process when it cannot be read. */
text_t text_read(const char* path);
/* `count` texts, the '#' of the template replaced by 0, 1, 2, ... in each; or, where the
 * template has zeros in it, the texts that end with one each, borrowed. */
text_t* text_expand(const text_t* template, int count);

enum { HEAD, SIZED, CHUNK_SIZE, CHUNK_BODY, CHUNK_END, TRAILER, WHOLE, BAD };

/* Zeroed = waits for a head. Knows the framings that the upstream uses. */
typedef struct {
    int state;
    int status;
    uint64_t left;     /* of a sized body or a chunk */
    size_t have;       /* bytes in `part` */
    char part[MAX_HEAD]; /* of a head or of a line of the chunked framing */
} answer_t;

typedef void (*on_body_t)(void* of, const char* bytes, size_t n);

/* Take bytes off the wire; stop at the end of an answer. Return how many were taken. */
size_t answer_feed(answer_t* a, const char* bytes, size_t n, on_body_t body, void* of);
/* Whether the head is in. */
int answer_headed(const answer_t* a);
void answer_reset(answer_t* a);

/* Value of a header in a head of `n` bytes, or NULL. `name` like "\r\nx-y:", in lower
 * case; the head's may be in any. */
const char* head_value(const char* head, size_t n, const char* name);

#endif
