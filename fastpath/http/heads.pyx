"""Parsed heads, which are larger than all else that an exchange has."""

from libc.stdlib cimport free, malloc

from fastpath.http.state cimport HEADS_KEPT
from fastpath.http1.framing cimport (
    ANSWER_LINES_MOST,
    head_ready,
    header_t,
    request_head_t,
)


cdef bint heads_init(conns_t* w) noexcept nogil:
    # Pages of it that no response needs are never touched.
    w.answer.headers = <header_t*>malloc(ANSWER_LINES_MOST * sizeof(header_t))
    return w.answer.headers != NULL


cdef void heads_fini(conns_t* w) noexcept nogil:
    while w.head_count > 0:
        w.head_count -= 1
        free(w.heads[w.head_count])
    free(w.answer.headers)
    w.answer.headers = NULL


cdef head_t* head_lend(conns_t* w) noexcept nogil:
    cdef request_head_t* h

    if w.head_count > 0:
        # The one that was used last is in the cache.
        w.head_count -= 1
        return w.heads[w.head_count]
    h = <request_head_t*>malloc(sizeof(request_head_t))
    return head_ready(h) if h != NULL else NULL


cdef void head_return(conns_t* w, head_t* h) noexcept nogil:
    if h == NULL:
        return
    if w.head_count == HEADS_KEPT:
        free(h)
        return
    w.heads[w.head_count] = h
    w.head_count += 1
