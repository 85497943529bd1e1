"""What a page that is rewritten needs, for as long as its exchange."""

from libc.stdlib cimport free, malloc

from fastpath.base.spill cimport spill_put
from fastpath.http.page cimport page_fini, page_init
from fastpath.http.state cimport rewrite_t


cdef bint rewrite_new(conns_t* w, exchange_t* x, CODING coding) noexcept nogil:
    cdef rewrite_t* r = <rewrite_t*>malloc(sizeof(rewrite_t))

    if r == NULL:
        return False
    if not page_init(
        &r.page, &x.verdict.filter, &x.verdict.edits, &x.up.address, coding
    ):
        free(r)
        return False
    r.source = x.response
    r.input = NULL
    r.chunked = x.minor > 0  # HTTP/1.0 knows no chunks: its body ends with the stream
    x.rewrite = r
    w.rewrites += 1
    return True


cdef void rewrite_free(conns_t* w, exchange_t* x) noexcept nogil:
    cdef rewrite_t* r = x.rewrite

    if r == NULL:
        return
    x.rewrite = NULL
    if r.input != NULL:
        spill_put(&w.c.mover, r.input)
    page_fini(&r.page)
    free(r)
    w.rewrites -= 1
