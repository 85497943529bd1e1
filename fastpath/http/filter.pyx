"""Edits of responses: each line of a head once, from their buffer into ours."""

from libc.stdint cimport uint32_t, uint64_t

from fastpath.http.location cimport (
    find_any,
    is_under,
    part_of,
    part_t,
    put_part,
    put_url,
    text_part,
)
from fastpath.http1.compose cimport (
    compose_end,
    compose_passes,
    compose_status,
    edit_of,
    out_put,
    put_edits,
    put_header,
)
from fastpath.http1.field cimport is_blank, same
from fastpath.http1.framing cimport BODY_CHUNKED, header_t

# ---- Cookies.

cdef part_t trimmed(part_t p) noexcept nogil:
    while p.size > 0 and is_blank(p.at[0]):
        p.at += 1
        p.size -= 1
    while p.size > 0 and is_blank(p.at[p.size - 1]):
        p.size -= 1
    return p


cdef void put_cookie_path(out_t* o, part_t path, part_t prefix) noexcept nogil:
    out_put(o, b"; Path=", 7)
    if path.size == 0 or path.at[0] != b"/":
        # None, or as good as none: a browser would take the directory of the request.
        put_part(o, prefix)
        if prefix.size == 0:
            out_put(o, b"/", 1)
        return
    if not is_under(path, prefix):
        put_part(o, prefix)
    put_part(o, path)


# A browser splits at each semicolon, whatever is quoted; the last Path counts.
cdef void put_cookie(out_t* o, part_t value, part_t prefix) noexcept nogil:
    cdef const char* end = value.at + value.size
    cdef const char* p = find_any(value.at, end, b";", b";", b";")
    cdef const char* next_
    cdef const char* equals
    cdef bint said = False
    cdef part_t name

    put_part(o, part_of(value.at, p))
    while p < end:
        next_ = find_any(p + 1, end, b";", b";", b";")
        equals = find_any(p + 1, next_, b"=", b"=", b"=")
        name = trimmed(part_of(p + 1, equals))
        if name.size == 4 and same(name.at, 4, b"path"):
            said = True
            if equals < next_:
                equals += 1
            put_cookie_path(o, trimmed(part_of(equals, next_)), prefix)
        else:
            put_part(o, part_of(p, next_))
        p = next_
    if not said:
        put_cookie_path(o, part_of(end, end), prefix)


# ---- Heads.

# Whether the header was written with another value.
cdef bint put_mapped(
    out_t* o, const char* bytes, const header_t* h, const filter_t* f,
    const edits_t* e, const addr_t* upstream,
) noexcept nogil:
    cdef const char* name = bytes + h.name.at
    cdef const char* value = bytes + h.value.at
    cdef bint cookie = f.cookies and h.name.size == 10 and same(name, 10, b"set-cookie")
    cdef part_t whole = part_of(value, value + h.value.size)

    if not cookie and not (
        f.mapping_count > 0 and (
            h.name.size == 8 and same(name, 8, b"location")
            or h.name.size == 16 and same(name, 16, b"content-location")
        )
    ):
        return False
    out_put(o, name, h.name.size)
    out_put(o, b": ", 2)
    if cookie:
        put_cookie(o, whole, text_part(e, f.cookie_path))
    else:
        put_url(o, whole, f, e, upstream)
    out_put(o, b"\r\n", 2)
    return True


cdef void filter_response(
    out_t* o, const head_t* h, const char* bytes, uint16_t minor, bint keep,
    bint unchunk, const filter_t* f, const edits_t* e, const addr_t* upstream,
) noexcept nogil:
    cdef bint chunked = h.body == BODY_CHUNKED and not unchunk
    cdef const header_t* header
    cdef uint64_t seen = 0
    cdef uint32_t i
    cdef int edit

    compose_status(o, h, bytes)
    for i in range(h.count):
        header = &h.headers[i]
        if not compose_passes(h, header, chunked):
            continue
        edit = edit_of(&f.headers, e.text, bytes, header)
        if edit >= 0 and not f.headers.list[edit].only_absent:
            continue
        if edit >= 0:
            if header.value.size == 0:
                continue  # says nothing: as good as absent
            seen |= <uint64_t>1 << edit
        if not put_mapped(o, bytes, header, f, e, upstream):
            put_header(o, bytes, header)
    put_edits(o, &f.headers, e.text, seen)
    compose_end(o, h, minor, keep, unchunk)
