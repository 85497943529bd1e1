/* Templates of requests, and a parser for the answers of our own upstream. */
#include "http.h"

#include "common.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

text_t text_read(const char* path) {
    FILE* f = fopen(path, "re");
    text_t t = {0};

    if (!f || fseek(f, 0, SEEK_END))
        die(path);
    t.size = (size_t)ftell(f);
    t.bytes = malloc(t.size + 1);
    rewind(f);
    if (fread(t.bytes, 1, t.size, f) != t.size)
        die(path);
    t.bytes[t.size] = 0;
    fclose(f);
    return t;
}

/* Texts that end with a zero each, one after the other. */
static text_t* text_split(const text_t* whole, int count) {
    text_t* all = calloc((size_t)count, sizeof *all);
    char *at = whole->bytes, *end = whole->bytes + whole->size;

    for (int i = 0; i < count; i++) {
        all[i].bytes = at;
        all[i].size = strlen(at);
        at += all[i].size + 1;
        if (at > end)
            die("fewer requests than --names");
    }
    return all;
}

text_t* text_expand(const text_t* template, int count) {
    text_t* all;
    const char* mark = strchr(template->bytes, '#');

    if (memchr(template->bytes, 0, template->size))
        return text_split(template, count);
    all = calloc((size_t)count, sizeof *all);

    for (int i = 0; i < count; i++) {
        all[i].bytes = malloc(template->size + 16);
        all[i].size = template->size;
        if (mark)
            all[i].size = (size_t)sprintf(all[i].bytes, "%.*s%d%s",
                                          (int)(mark - template->bytes),
                                          template->bytes, i, mark + 1);
        else
            memcpy(all[i].bytes, template->bytes, template->size + 1);
    }
    return all;
}

const char* head_value(const char* head, size_t n, const char* name) {
    size_t length = strlen(name);

    for (const char* at = head; (at = memchr(at, '\r', n - (size_t)(at - head))); at++)
        if ((size_t)(at - head) + length <= n && !strncasecmp(at, name, length))
            return at + length;
    return NULL;
}

static void head_read(answer_t* a, const char* head, size_t n) {
    const char* length = head_value(head, n, "\r\ncontent-length:");

    a->status = n > 12 ? atoi(head + 9) : 0;
    a->left = 0;
    if (head_value(head, n, "\r\ntransfer-encoding:"))
        a->state = CHUNK_SIZE;
    else if (length)
        a->state = (a->left = strtoull(length, NULL, 10)) ? SIZED : WHOLE;
    else /* after an upgrade what follows is no body */
        a->state = a->status == 101 ? WHOLE : BAD;
}

/* Collect up to `end`; return the bytes taken, and in *whole what was collected when
 * `end` was there. Without a copy when all of it is in `bytes`. */
static size_t collect(answer_t* a, const char* bytes, size_t n, const char* end,
                      const char** whole, size_t* size) {
    size_t width = strlen(end);
    const char* found = a->have ? NULL : memmem(bytes, n, end, width);

    *whole = NULL;
    if (found) {
        *whole = bytes;
        return *size = (size_t)(found - bytes) + width;
    }
    for (size_t i = 0; i < n; i++) {
        if (a->have == MAX_HEAD) {
            a->state = BAD;
            return i;
        }
        a->part[a->have++] = bytes[i];
        if (a->have >= width && !memcmp(a->part + a->have - width, end, width)) {
            *whole = a->part;
            *size = a->have;
            a->have = 0;
            return i + 1;
        }
    }
    return n;
}

static size_t take_line(answer_t* a, const char* bytes, size_t n) {
    const char* line;
    size_t size, taken;

    taken = collect(a, bytes, n, a->state == HEAD ? "\r\n\r\n" : "\r\n", &line, &size);
    if (!line)
        return taken;
    if (a->state == HEAD) {
        head_read(a, line, size);
    } else if (a->state == CHUNK_SIZE) {
        a->left = strtoull(line, NULL, 16);
        a->state = !isxdigit((unsigned char)*line) ? BAD : a->left ? CHUNK_BODY : TRAILER;
    } else if (a->state == CHUNK_END) {
        a->state = size == 2 ? CHUNK_SIZE : BAD;
    } else { /* trailers end with an empty line */
        a->state = size == 2 ? WHOLE : TRAILER;
    }
    return taken;
}

size_t answer_feed(answer_t* a, const char* bytes, size_t n, on_body_t body, void* of) {
    size_t at = 0;

    while (at < n && a->state != WHOLE && a->state != BAD) {
        if (a->state != SIZED && a->state != CHUNK_BODY) {
            at += take_line(a, bytes + at, n - at);
            continue;
        }
        size_t slice = n - at < a->left ? n - at : (size_t)a->left;
        body(of, bytes + at, slice);
        at += slice;
        a->left -= slice;
        if (!a->left)
            a->state = a->state == SIZED ? WHOLE : CHUNK_END;
    }
    return at;
}

int answer_headed(const answer_t* a) { return a->state != HEAD; }

void answer_reset(answer_t* a) {
    a->state = HEAD;
    a->status = 0;
    a->have = 0;
}
