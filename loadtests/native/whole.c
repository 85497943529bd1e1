/* Whole answers, framed once and sent many times. */
#include "whole.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

text_t whole_sized(const char* status, const char* header, const text_t* body) {
    text_t t = {.bytes = malloc(body->size + 1024)};

    /* What a kube-apiserver says besides. */
    t.size = (size_t)sprintf(
        t.bytes,
        "HTTP/1.1 %s\r\nAudit-Id: 7a1c9c0e-5d55-4c8c-9c56-0d5c5ac8b0ad\r\n"
        "Cache-Control: no-cache, private\r\nContent-Type: application/json\r\n"
        "X-Kubernetes-Pf-Flowschema-Uid: 0f53d8c5-4d53-4a27-9b49-0b58a1d5a6c2\r\n"
        "X-Kubernetes-Pf-Prioritylevel-Uid: 4d0f5f1e-7a7f-4e43-8a9e-5d8d9ac1f1b7\r\n"
        "Date: Sun, 22 Nov 2026 10:30:34 GMT\r\n%sContent-Length: %zu\r\n\r\n",
        status, header, body->size);
    memcpy(t.bytes + t.size, body->bytes, body->size);
    t.size += body->size;
    return t;
}

text_t whole_chunked(const char* header, const text_t* body, size_t step) {
    text_t t = {.bytes = malloc(2 * body->size + 1024)};
    size_t at = 0;

    t.size = (size_t)sprintf(t.bytes,
                             "HTTP/1.1 200 OK\r\nCache-Control: no-cache, private\r\n"
                             "Content-Type: application/json\r\n%s"
                             "Transfer-Encoding: chunked\r\n\r\n",
                             header);
    while (at < body->size) {
        size_t n = body->size - at < step ? body->size - at : step;
        const char* end = memchr(body->bytes + at, '\n', body->size - at);
        if (!step)
            n = end ? (size_t)(end - body->bytes) + 1 - at : body->size - at;
        t.size += (size_t)sprintf(t.bytes + t.size, "%zx\r\n", n);
        memcpy(t.bytes + t.size, body->bytes + at, n);
        memcpy(t.bytes + t.size + n, "\r\n", 2);
        t.size += n + 2;
        at += n;
    }
    t.size += (size_t)sprintf(t.bytes + t.size, "0\r\n\r\n");
    return t;
}
