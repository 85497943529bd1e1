"""Bodies of pages, rewritten: read, taken out of their framing, mapped, framed anew.

As with other bodies nothing is read while the client has not taken what came of the
last read; a page that is inflated stops in the middle of what was read, which waits.
What was read is passed on at once, so that a page that comes slowly is seen as it
comes.
"""

from libc.errno cimport EAGAIN
from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf

from fastpath.base.spill cimport spill_of, spill_put
from fastpath.base.stats cimport (
    PAGE,
    PAGE_BROKEN,
    PAGE_ENCODING,
    PAGE_LOCATION,
    PAGE_NO_MEMORY,
    PAGE_OTHER,
    PAGE_PART,
    PAGE_REWRITTEN,
    PAGE_TOO_MANY,
    http_stats,
)
from fastpath.http.body cimport body_take, pending_flush, read_some
from fastpath.http.coding cimport CODING, CODING_NONE, CODING_OTHER, coding_of
from fastpath.http.page cimport page_drain, page_feed
from fastpath.http.pages cimport REWRITES_MOST, rewrite_new
from fastpath.http.reply cimport out_begin, out_send
from fastpath.http.state cimport (
    STEP_CLIENT_FAILED,
    STEP_DONE,
    STEP_FAULT,
    STEP_NO_MEMORY,
    STEP_ON,
    STEP_TURN,
    STEP_UPSTREAM_FAILED,
    STEP_WAIT,
    rewrite_t,
)
from fastpath.http1.chunks cimport CHUNK_DATA
from fastpath.http1.compose cimport out_put
from fastpath.http1.field cimport is_blank, same
from fastpath.http1.framing cimport (
    BODY_CHUNKED,
    BODY_NONE,
    BODY_SIZED,
    BODY_TO_EOF,
    head_t,
    header_t,
)

cdef enum:
    REWRITE_TURN_BYTES = 131072  # less than of other bodies: each costs more
    CHUNK_MOST = 32768       # bytes of one that is sent
    CHUNK_SIZE_BYTES = 6     # "8000\r\n"


# ---- Which responses.

# The media type alone, in any case: parameters say nothing about what to do.
cdef bint is_html(const char* value, uint32_t size) noexcept nogil:
    return size >= 9 and same(value, 9, b"text/html") and (
        size == 9 or value[9] == b";" or is_blank(value[9])
    )


# What becomes of the response at hand, with its content coding. PAGE_OTHER = no page.
cdef PAGE rewrite_judge(
    const head_t* h, const char* bytes, CODING* coding
) noexcept nogil:
    cdef bint html = False
    cdef bint located = False
    cdef uint32_t codings = 0
    cdef const header_t* header
    cdef const char* name
    cdef uint32_t i

    for i in range(h.count):
        header = &h.headers[i]
        name = bytes + header.name.at
        if header.name.size == 12 and same(name, 12, b"content-type"):
            html = is_html(bytes + header.value.at, header.value.size)
            if not html:
                return PAGE_OTHER  # of several types none is sure
        elif header.name.size == 16 and same(name, 16, b"content-encoding"):
            codings += 1
            coding[0] = coding_of(bytes + header.value.at, header.value.size)
        elif header.name.size == 8 and same(name, 8, b"location"):
            located = True
    if not html:
        return PAGE_OTHER
    # A part of a page cannot be read as one, and its place in the page would be wrong.
    # Of other statuses, errors too, those without a body do not come here.
    if h.status == 206:
        return PAGE_PART
    if located:
        return PAGE_LOCATION  # as the API server's: the page says where to go, no more
    return PAGE_ENCODING if codings > 1 or coding[0] == CODING_OTHER else PAGE_REWRITTEN


cdef void rewrite_begin(conns_t* w, exchange_t* x, const char* bytes) noexcept nogil:
    cdef head_t* h = &w.answer
    cdef CODING coding = CODING_NONE
    cdef PAGE page

    # The head for a HEAD stays as it is: whether a page would be rewritten is known
    # once there is one, and the length that the upstream says is the only one there is
    # (RFC 9110 9.3.2 lets those of its body be different). So does that of an empty
    # one.
    if x.is_head or x.upgrade or h.body == BODY_NONE or (
        h.body == BODY_SIZED and h.length == 0
    ):
        return
    page = rewrite_judge(h, bytes, &coding)
    if page == PAGE_OTHER:
        return
    if page == PAGE_REWRITTEN:
        if w.rewrites >= REWRITES_MOST:
            page = PAGE_TOO_MANY
        elif not rewrite_new(w, x, coding):
            page = PAGE_NO_MEMORY
        else:
            # Its length is known when it ends.
            h.body = BODY_CHUNKED
    http_stats(&w.c.stats, x.conn.vip.slot).pages[<int>page] += 1


# ---- Bodies.

# The next bytes of the body that are data, up to `size`; 0 = those of its framing.
cdef inline size_t data_size(const rewrite_t* r, size_t size) noexcept nogil:
    if r.source.kind == BODY_TO_EOF:
        return size
    if r.source.kind == BODY_CHUNKED:
        if r.source.chunks.state != CHUNK_DATA:
            return 0
        return size if size < r.source.chunks.left else r.source.chunks.left
    return size if size < r.source.left else r.source.left


# Take bytes of the body, as far as `o` has room. Return how many, or -1: see w.why.
cdef ssize_t rewrite_take(
    conns_t* w, exchange_t* x, out_t* o, const char* bytes, size_t size
) noexcept nogil:
    cdef rewrite_t* r = x.rewrite
    cdef size_t at = 0
    cdef size_t some
    cdef ssize_t used

    while at < size and not r.source.done:
        some = data_size(r, size - at)
        used = 1
        if some > 0:
            used = page_feed(&r.page, bytes + at, some, o, REWRITE_TURN_BYTES)
            if used < 0:
                rewrite_broken(w, x)
                return -1
        if body_take(&r.source, bytes + at, used) < 0:
            snprintf(w.why, sizeof(w.why), b"malformed HTTP response")
            return -1
        at += used
        if some > 0 and used < <ssize_t>some:
            break  # no room
    x.response.bytes = r.source.bytes
    return at


cdef void rewrite_broken(conns_t* w, exchange_t* x) noexcept nogil:
    snprintf(w.why, sizeof(w.why), b"body is not what its Content-Encoding says")
    http_stats(&w.c.stats, x.conn.vip.slot).pages[<int>PAGE_BROKEN] += 1


# Now, because a connection that is dropped has left its vip by the time that it gives
# this back.
cdef void count_untouched(conns_t* w, exchange_t* x) noexcept nogil:
    cdef uint32_t count = x.rewrite.page.untouched

    if count > 0:
        http_stats(&w.c.stats, x.conn.vip.slot).values_untouched += count
        x.rewrite.page.untouched = 0


cdef void put_chunk_size(char* at, size_t size) noexcept nogil:
    cdef const char* digits = b"0123456789abcdef"

    # Always of four digits: its place is kept before the size is known.
    at[0] = digits[size >> 12 & 15]
    at[1] = digits[size >> 8 & 15]
    at[2] = digits[size >> 4 & 15]
    at[3] = digits[size & 15]
    at[4] = 13
    at[5] = 10


cdef STEP rewrite_some(
    conns_t* w, exchange_t* x, out_t* o, const char* bytes, size_t size
) noexcept nogil:
    cdef rewrite_t* r = x.rewrite
    cdef size_t before = o.size
    cdef size_t room = o.room
    cdef size_t start = before + (CHUNK_SIZE_BYTES if r.chunked else 0)
    cdef ssize_t used
    cdef int drained = 0

    # In order: leave a place for the size; take bytes; if all were taken, let out what
    # they became; write the size; keep what was not taken.
    o.size = start
    o.room = start + CHUNK_MOST
    used = rewrite_take(w, x, o, bytes, size)
    if used < 0:
        return STEP_FAULT
    if r.source.done and used < <ssize_t>size:
        x.up.keep = 0  # bytes behind a response belong to no request
        size = used
    if used == <ssize_t>size:
        drained = page_drain(&r.page, o, REWRITE_TURN_BYTES, r.source.done)
        if drained < 0:
            rewrite_broken(w, x)
            return STEP_FAULT
    count_untouched(w, x)
    r.busy = drained == 0
    x.response.done = drained == 1 and r.source.done
    o.room = room
    if r.chunked:
        chunk_end(o, before, start, x.response.done)
    return rewrite_keep(w, r, bytes + used, size - used)


# What stands around the bytes of a chunk that began at `start`.
cdef void chunk_end(out_t* o, size_t before, size_t start, bint last) noexcept nogil:
    if o.size == start:
        o.size = before  # an empty one would end the body
    else:
        put_chunk_size(o.bytes + before, o.size - start)
        out_put(o, b"\r\n", 2)
    if last:
        out_put(o, b"0\r\n\r\n", 5)


cdef STEP rewrite_keep(
    conns_t* w, rewrite_t* r, const char* bytes, size_t size
) noexcept nogil:
    if r.input != NULL:
        # They are the last ones in there.
        r.input.first += r.input.used - <uint32_t>size
        r.input.used = <uint32_t>size
        if size == 0:
            spill_put(&w.c.mover, r.input)
            r.input = NULL
    elif size > 0:
        r.input = spill_of(&w.c.mover, bytes, size)
        if r.input == NULL:
            return STEP_NO_MEMORY
    return STEP_ON


# The bytes to go on with; none if there are more to come of those before.
cdef STEP rewrite_read(
    conns_t* w, exchange_t* x, const char** bytes, size_t* size
) noexcept nogil:
    cdef rewrite_t* r = x.rewrite
    cdef ssize_t n

    size[0] = 0
    if r.input != NULL:
        bytes[0] = r.input.bytes + r.input.first
        size[0] = r.input.used
        return STEP_ON
    if r.busy or r.source.done:
        return STEP_ON
    if not x.up.link.end.readable:
        return STEP_WAIT
    n = read_some(&w.c.mover, &x.up.link)
    if n == -EAGAIN:
        return STEP_WAIT
    if n > 0:
        bytes[0] = w.c.mover.scratch
        size[0] = n
        return STEP_ON
    # As in body_move.
    if n == 0 and r.source.kind == BODY_TO_EOF and not x.up.link.truncated:
        r.source.done = 1
        return STEP_ON
    return STEP_UPSTREAM_FAILED


cdef STEP rewrite_move(conns_t* w, exchange_t* x) noexcept nogil:
    cdef const char* bytes = NULL
    cdef size_t size
    cdef out_t o
    cdef STEP step
    cdef int flushed

    # In order, until something stops it: send what waits; end the turn after 128
    # KiB, read or inflated; read; rewrite; send.
    x.rewrite.page.worked = 0
    while True:
        flushed = pending_flush(&w.c.mover, &x.conn.to_down, &x.conn.down)
        if flushed < 0:
            return STEP_CLIENT_FAILED
        if flushed == 0:
            return STEP_WAIT
        if x.response.done:
            return STEP_DONE
        if x.rewrite.page.worked >= REWRITE_TURN_BYTES:
            return STEP_TURN
        step = rewrite_read(w, x, &bytes, &size)
        if step != STEP_ON:
            return step
        out_begin(w, &o)
        step = rewrite_some(w, x, &o, bytes, size)
        if step == STEP_FAULT:
            return STEP_UPSTREAM_FAILED
        if step != STEP_ON:
            return step
        if not out_send(w, x, &o):
            return STEP_CLIENT_FAILED
