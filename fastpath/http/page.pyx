"""URLs in pages.

The tokenizer finds values; here one is mapped as a Location would be, between the
quotes that it has. A mapped value adds one of the verdict's paths, which need no escape
in HTML (ResponseEdits sees to that), and what stays is written as it was: so no value
is decoded and encoded again, but for references to the few characters by which a path
is read. With a content coding, the three stages (inflate, map, deflate) hand on through
two buffers; each stops when the next one has no room.
"""

from libc.string cimport memset

from fastpath.http.coding cimport (
    CODER_BYTES,
    CODING_NONE,
    coder_deflate,
    coder_finish,
    coder_flush,
    coder_free,
    coder_inflate,
    coder_is_whole,
    coder_new,
)
from fastpath.http.location cimport find_any, part_of, part_t, put_part, put_url
from fastpath.http1.compose cimport out_put
from fastpath.http1.field cimport is_digit, lower, same
from fastpath.http1.html cimport (
    HTML,
    HTML_LONG,
    HTML_LOOSE,
    HTML_PASS,
    HTML_URL,
    HTML_URLS,
    HTML_WHOLE,
    html_finish,
    html_step,
    is_space,
)


cdef bint page_init(
    page_t* p, const filter_t* f, const edits_t* e, const addr_t* upstream,
    CODING coding,
) noexcept nogil:
    memset(p, 0, sizeof(page_t))
    p.filter = f
    p.edits = e
    p.upstream = upstream[0]
    if coding == CODING_NONE:
        return True
    p.coder = coder_new(coding)
    return p.coder != NULL


cdef void page_fini(page_t* p) noexcept nogil:
    coder_free(p.coder)
    p.coder = NULL


# ---- References.

# The character of a reference like "&#47;" or "&#x2F;", and its size; 0 = it is none of
# those by which a path is read. Templates that escape slashes (mustache, OWASP) write
# it so. An ampersand is not decoded, nor what together with one before it would make a
# reference of what is none.
cdef char reference_at(const char* p, const char* end, uint32_t* size) noexcept nogil:
    cdef const char* at = p + 2
    cdef bint hex_ = False
    cdef uint32_t code = 0
    cdef char c

    if end - p < 4 or p[1] != b"#":
        return 0
    if lower(at[0]) == b"x":
        hex_ = True
        at += 1
    while at < end and at[0] != b";" and code < 256:
        c = lower(at[0])
        if is_digit(c):
            code = code * (16 if hex_ else 10) + <uint32_t>(c - 48)
        elif hex_ and c >= b"a" and c <= b"f":
            code = code * 16 + <uint32_t>(c - 87)
        else:
            return 0
        at += 1
    size[0] = <uint32_t>(at + 1 - p)
    if at < end and at[0] == b";" and (
        code == b"/" or code == b":" or code == b"." or code == b"?" or code == b"%"
        or code == b"\\"
    ):
        return <char>code
    return 0


# The value without such references, in p.plain.
cdef part_t without_references(page_t* p, part_t value) noexcept nogil:
    cdef const char* end = value.at + value.size
    cdef const char* at = value.at
    cdef uint32_t size = 0
    cdef uint32_t skip = 0
    cdef char c

    while at < end:
        c = reference_at(at, end, &skip) if at[0] == b"&" else 0
        if c == 0:
            c = at[0]
            skip = 1
        p.plain[size] = c
        size += 1
        at += skip
    return part_of(p.plain, p.plain + size)


# ---- Values.

cdef void put_one(page_t* p, out_t* o, part_t url) noexcept nogil:
    cdef size_t start = o.size
    cdef const char* end = url.at + url.size
    cdef part_t plain = url

    if find_any(url.at, end, b"&", b"&", b"&") < end:
        plain = without_references(p, url)
    if not put_url(o, plain, p.filter, p.edits, &p.upstream, True):
        o.size = start
        put_part(o, url)


# A value that is one URL, perhaps with blanks around.
cdef void put_value(page_t* p, out_t* o, part_t value) noexcept nogil:
    cdef const char* at = value.at
    cdef const char* end = at + value.size

    while at < end and is_space(at[0]):
        at += 1
    while end > at and is_space((end - 1)[0]):
        end -= 1
    put_part(o, part_of(value.at, at))
    put_one(p, o, part_of(at, end))
    put_part(o, part_of(end, value.at + value.size))


cdef const char* descriptor_end(const char* at, const char* end) noexcept nogil:
    cdef bint nested = False

    while at < end and (nested or at[0] != b","):
        nested = at[0] == b"(" or (nested and at[0] != b")")
        at += 1
    return at


# "one.png 1x, two.png 2x": WHATWG HTML 4.8.4.2.
cdef void put_candidates(page_t* p, out_t* o, part_t value) noexcept nogil:
    cdef const char* end = value.at + value.size
    cdef const char* from_ = value.at
    cdef const char* at = from_
    cdef const char* after

    # In order, for each: what stands before the URL; the URL, up to a blank, less
    # commas at its end; then what says when it is meant, up to a comma outside of
    # parentheses.
    while at < end:
        while at < end and (is_space(at[0]) or at[0] == b","):
            at += 1
        put_part(o, part_of(from_, at))
        from_ = at
        while at < end and not is_space(at[0]):
            at += 1
        after = at
        while after > from_ and (after - 1)[0] == b",":
            after -= 1
        put_one(p, o, part_of(from_, after))
        from_ = after
        if after == at:  # a comma at its end leaves no descriptor
            at = descriptor_end(at, end)
    put_part(o, part_of(from_, end))


# "5; url=/there": WHATWG HTML 4.2.5.3. By what it looks like: http-equiv may come
# later.
cdef void put_refresh(page_t* p, out_t* o, part_t value) noexcept nogil:
    cdef const char* end = value.at + value.size
    cdef const char* at = value.at
    cdef const char* last

    while at < end and (is_space(at[0]) or is_digit(at[0]) or at[0] == b"."):
        at += 1
    if at < end and (at[0] == b";" or at[0] == b","):
        at += 1
    while at < end and is_space(at[0]):
        at += 1
    if end - at < 3 or not same(at, 3, b"url"):
        put_part(o, value)
        return
    at += 3
    while at < end and (is_space(at[0]) or at[0] == b"="):
        at += 1
    last = end
    if at < end and (at[0] == b'"' or at[0] == b"'"):
        last = find_any(at + 1, end, at[0], at[0], at[0])
        at += 1
    put_part(o, part_of(value.at, at))
    put_value(p, o, part_of(at, last))
    put_part(o, part_of(last, end))


# Map the value that the tokenizer has found; what comes of it is `left` to be passed
# on.
cdef void page_map(page_t* p) noexcept nogil:
    cdef part_t value = part_of(p.html.value, p.html.value + p.html.size)
    cdef out_t o

    o.bytes = p.mapped
    o.room = PAGE_MAPPED_MOST
    o.size = 0
    o.full = False
    if p.html.found == HTML_URL:
        put_value(p, &o, value)
    elif p.html.found == HTML_URLS:
        put_candidates(p, &o, value)
    else:
        put_refresh(p, &o, value)
    p.left = p.mapped
    p.left_size = <uint32_t>o.size
    if o.full:
        p.untouched += 1
        p.left = p.html.value
        p.left_size = p.html.size


# ---- Stages.

# Bytes of a value that wait. False = there is no room for all of them.
cdef bint page_rest(page_t* p, out_t* o) noexcept nogil:
    cdef size_t some = o.room - o.size

    if p.left_size == 0:
        return True
    if some > p.left_size:
        some = p.left_size
    out_put(o, p.left, some)
    p.left += some
    p.left_size -= <uint32_t>some
    return p.left_size == 0


# Map bytes of the page, as far as `o` has room. Return how many were taken.
cdef size_t page_text(
    page_t* p, const char* bytes, size_t size, out_t* o
) noexcept nogil:
    cdef size_t at = 0
    cdef size_t used = 0
    cdef size_t room
    cdef HTML found

    while page_rest(p, o) and at < size and o.size < o.room:
        room = o.room - o.size
        found = html_step(
            &p.html, bytes + at, size - at if size - at < room else room, &used
        )
        if found == HTML_PASS:
            out_put(o, bytes + at, used)
        elif found == HTML_WHOLE:
            page_map(p)
        elif found == HTML_LOOSE or found == HTML_LONG:
            p.untouched += found == HTML_LONG
            p.left = p.html.value
            p.left_size = p.html.size
        at += used
    return at


# Let text go on to deflate, and what was inflated to become text. True = both buffers
# are empty; False = `o` is full.
cdef bint page_pass(page_t* p, out_t* o) noexcept nogil:
    cdef coder_t* c = p.coder
    cdef out_t text

    while True:
        if not coder_deflate(c, o):
            return False
        if c.plain_at == c.plain_size and p.left_size == 0:
            return True
        text.bytes = c.text
        text.room = CODER_BYTES
        text.size = 0
        text.full = False
        c.plain_at += <uint32_t>page_text(
            p, c.plain + c.plain_at, c.plain_size - c.plain_at, &text
        )
        c.text_at = 0
        c.text_size = <uint32_t>text.size


cdef ssize_t page_feed(
    page_t* p, const char* bytes, size_t size, out_t* o, uint64_t most
) noexcept nogil:
    cdef coder_t* c = p.coder
    cdef size_t at = 0
    cdef ssize_t used

    if c == NULL:
        at = page_text(p, bytes, size, o)
        p.worked += at
        return at
    # From the last stage to the first: nothing is inflated before there is room for
    # what came before.
    while page_pass(p, o) and p.worked < most and (at < size or c.more):
        used = coder_inflate(c, bytes + at, size - at)
        if used < 0:
            return -1
        at += used
        p.worked += used + c.plain_size
    return at


# The last bytes of the page itself: a value that never ended.
cdef void page_close(page_t* p) noexcept nogil:
    if p.left_size == 0:
        p.left_size = html_finish(&p.html)
        p.left = p.html.value


cdef int page_drain(page_t* p, out_t* o, uint64_t most, bint end) noexcept nogil:
    cdef coder_t* c = p.coder

    if c == NULL:
        if not page_rest(p, o):
            return 0
        if end:
            page_close(p)
        return page_rest(p, o)
    if page_feed(p, NULL, 0, o, most) < 0:
        return -1
    if c.more or not page_pass(p, o):
        return 0
    if not end:
        return coder_flush(c, o)
    if not coder_is_whole(c):
        return -1
    page_close(p)
    return page_pass(p, o) and coder_finish(c, o)
