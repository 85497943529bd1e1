"""Edits of responses: each line of a head is read once and written once, edited."""

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

# Less blanks at both ends, RFC 6265 5.2.
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
        # No path, or not an absolute one: a browser would take the directory of the
        # request instead (RFC 6265 5.2.4), another one for each URL.
        put_part(o, prefix)
        if prefix.size == 0:
            out_put(o, b"/", 1)
        return
    if not is_under(path, prefix):  # an upstream that knows our prefix wrote it itself
        put_part(o, prefix)
    put_part(o, path)


# A browser splits at each semicolon, whatever is quoted, and the last Path counts (RFC
# 6265 5.2): each of them is rewritten, so that it does not matter which one does.
cdef void put_cookie(out_t* o, part_t value, part_t prefix) noexcept nogil:
    cdef const char* end = value.at + value.size
    cdef const char* p = find_any(value.at, end, b";", b";", b";")
    cdef const char* next_
    cdef const char* equals
    cdef bint said = False
    cdef part_t name

    # In order: the pair of name and value; each attribute, of which Path changes and
    # Domain goes; a Path, if there was none.
    put_part(o, part_of(value.at, p))
    while p < end:
        next_ = find_any(p + 1, end, b";", b";", b";")
        equals = find_any(p + 1, next_, b"=", b"=", b"=")
        name = trimmed(part_of(p + 1, equals))
        if name.size == 4 and same(name.at, 4, b"path"):
            said = True
            if equals < next_:
                equals += 1  # else it is "Path" without a value: as if empty
            put_cookie_path(o, trimmed(part_of(equals, next_)), prefix)
        elif name.size != 6 or not same(name.at, 6, b"domain"):
            # Our name is not in the upstream's Domain: a browser would take no cookie
            # from us with one. Without it the cookie is for our name alone.
            put_part(o, part_of(p, next_))
        p = next_
    if not said:
        put_cookie_path(o, part_of(end, end), prefix)  # with no path


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

    # By length first: of the headers of a response hardly one has the length of these.
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
        put_url(o, whole, f, e, upstream, False)
    out_put(o, b"\r\n", 2)
    return True


# Whether a header of a page is left out, because it is about bytes that change.
cdef bint is_of_bytes(const char* name, uint32_t size) noexcept nogil:
    if size == 14:
        return same(name, 14, b"content-length") or same(name, 14, b"content-digest")
    if size == 11:
        return same(name, 11, b"content-md5") or same(name, 11, b"repr-digest")
    return size == 6 and same(name, 6, b"digest") or (
        size == 13 and same(name, 13, b"accept-ranges")  # of other bytes than ours
    )


# The header of a page. True = it is dealt with.
cdef bint put_of_page(out_t* o, const char* bytes, const header_t* h) noexcept nogil:
    cdef const char* name = bytes + h.name.at
    cdef const char* value = bytes + h.value.at

    if is_of_bytes(name, h.name.size):
        return True
    if h.name.size != 4 or not same(name, 4, b"etag") or (
        h.value.size > 1 and value[0] == b"W" and value[1] == b"/"
    ):
        return False
    # Weak, RFC 9110 8.8.1: the same page, though not byte by byte. With it a client
    # asks the upstream whether the page has changed, which compares weakly.
    out_put(o, name, 4)
    out_put(o, b": W/", 4)
    out_put(o, value, h.value.size)
    out_put(o, b"\r\n", 2)
    return True


cdef void filter_response(
    out_t* o, const head_t* h, const char* bytes, uint16_t minor, bint keep,
    bint unchunk, const filter_t* f, const edits_t* e, const addr_t* upstream,
    bint page,
) noexcept nogil:
    # Trailers of a page are left out: what they say is about other bytes.
    cdef bint chunked = h.body == BODY_CHUNKED and not unchunk and not page
    cdef const header_t* header
    cdef uint64_t seen = 0
    cdef uint32_t i
    cdef int edit

    # In order: the status line; each header that is passed on, unless an edit replaces
    # it or takes it away, mapped where it names a place; the lines that edits set; our
    # own framing.
    compose_status(o, h, bytes)
    for i in range(h.count):
        header = &h.headers[i]
        if not compose_passes(h, header, chunked):
            continue
        edit = edit_of(&f.headers, e.text, bytes, header)
        if edit >= 0 and not f.headers.list[edit].only_absent:
            continue  # put_edits writes the line that takes its place, if any
        if edit >= 0:
            if header.value.size == 0:
                continue  # an empty one says nothing: the default takes its place
            seen |= <uint64_t>1 << edit
        if page and put_of_page(o, bytes, header):
            continue
        if not put_mapped(o, bytes, header, f, e, upstream):
            put_header(o, bytes, header)
    put_edits(o, &f.headers, e.text, seen)
    compose_end(o, h, minor, keep, unchunk)
