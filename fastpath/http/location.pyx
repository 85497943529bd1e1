"""Where a response says that something is.

A URL in Location or Content-Location is mapped in three cases: it is an absolute path;
it names the upstream, by its address or by the Host that the request had (scheme and
authority are taken away, because clients cannot use them); or it names us (they stay).
Any other value stays as it is: a relative one is relative to what the client asked for,
one of another host is not ours, and what is no URL is not made one.

A mapped path has no dot segment left, escaped or not, that would climb out of its new
prefix, and in a head no byte that a URL may not have.
"""

from libc.stdio cimport snprintf
from libc.string cimport memcmp, memmove, strlen

from fastpath.base.linux.socket cimport AF_INET, AF_INET6, inet_ntop
from fastpath.http1.compose cimport is_listed, out_put
from fastpath.http1.field cimport is_digit, lower, same

cdef enum:
    AUTHORITY_MOST = 64      # of an address as text


cdef bint is_under(part_t p, part_t prefix) noexcept nogil:
    # "/apix" is not under "/api": behind the prefix a segment must end.
    if p.size < prefix.size or memcmp(p.at, prefix.at, prefix.size) != 0:
        return False
    return p.size == prefix.size or p.at[prefix.size] == b"/"


# ---- Authorities.

cdef enum SCHEME:
    SCHEME_NONE              # "//host/path", or no authority
    SCHEME_HTTP
    SCHEME_HTTPS


# Less a port that is the scheme's own. RFC 3986 6.2.3: with and without it they are
# one; servers write either.
cdef part_t without_port(part_t p, SCHEME scheme) noexcept nogil:
    if scheme == SCHEME_HTTP and p.size > 3 and (
        memcmp(p.at + p.size - 3, b":80", 3) == 0
    ):
        p.size -= 3
    elif scheme == SCHEME_HTTPS and p.size > 4 and (
        memcmp(p.at + p.size - 4, b":443", 4) == 0
    ):
        p.size -= 4
    return p


cdef bint is_authority(part_t one, part_t other, SCHEME scheme) noexcept nogil:
    cdef uint32_t i

    one = without_port(one, scheme)
    other = without_port(other, scheme)
    if one.size != other.size or one.size == 0:
        return False  # an empty one names nothing
    # Host names have no case, RFC 3986 3.2.2.
    for i in range(one.size):
        if lower(one.at[i]) != lower(other.at[i]):
            return False
    return True


cdef bint is_address(part_t p, const addr_t* a, SCHEME scheme) noexcept nogil:
    cdef char ip[AUTHORITY_MOST]
    cdef char text[AUTHORITY_MOST]

    if a.family != AF_INET and a.family != AF_INET6:
        return False  # a unix socket has no authority
    # A server that knows no name of its own writes its address, as this does.
    inet_ntop(a.family, a.ip, ip, sizeof(ip))
    snprintf(
        text, sizeof(text), b"[%s]:%u" if a.family == AF_INET6 else b"%s:%u", ip,
        <unsigned int>a.port,
    )
    return is_authority(p, part_of(text, text + strlen(text)), scheme)


# ---- URLs.

# A URL in three parts; what stands before the path is empty if it is to go.
cdef struct url_t:
    part_t before
    part_t path
    part_t after             # query and fragment


cdef const char* find_any(
    const char* p, const char* end, char one, char two, char three
) noexcept nogil:
    while p < end and p[0] != one and p[0] != two and p[0] != three:
        p += 1
    return p


cdef inline bint is_hex(char c) noexcept nogil:
    c = lower(c)
    return is_digit(c) or (c >= b"a" and c <= b"f")


cdef bint escapes_are_whole(part_t p) noexcept nogil:
    cdef uint32_t i

    for i in range(p.size):
        if p.at[i] == b"%" and (
            p.size - i < 3 or not is_hex(p.at[i + 1]) or not is_hex(p.at[i + 2])
        ):
            return False
    return True


# Whether URLs of this authority are mapped; `stays` says if it goes on with them.
cdef bint is_ours(
    part_t host, SCHEME scheme, const filter_t* f, const edits_t* e,
    const addr_t* upstream, bint* stays,
) noexcept nogil:
    # The upstream's names come first: where both sides have one name, clients get a
    # path without authority, which leads to wherever they reached us.
    stays[0] = False
    if is_authority(host, text_part(e, e.host), scheme) or (
        is_address(host, upstream, scheme)
    ):
        return True
    stays[0] = True
    return is_listed(e.text + f.hosts.at, f.hosts.size, host.at, host.size)


# Split a value; False = it is not for us to map.
cdef bint url_split(
    url_t* u, part_t value, const filter_t* f, const edits_t* e, const addr_t* upstream
) noexcept nogil:
    cdef SCHEME scheme = SCHEME_NONE
    cdef const char* end = value.at + value.size
    cdef const char* p = value.at
    cdef const char* path
    cdef bint stays = False

    # In order: skip the scheme; the authority, which must be one that is mapped; then
    # the path up to "?" or "#", and the rest, which is not touched.
    if value.size > 7 and same(p, 7, b"http://"):
        scheme = SCHEME_HTTP
        p += 7
    elif value.size > 8 and same(p, 8, b"https://"):
        scheme = SCHEME_HTTPS
        p += 8
    elif value.size >= 2 and p[0] == b"/" and p[1] == b"/":
        p += 2  # scheme-relative, RFC 3986 4.2
    elif value.size == 0 or p[0] != b"/":
        return False  # relative to a path, another scheme, or no URL
    path = p
    if p != value.at:
        path = find_any(p, end, b"/", b"?", b"#")
        if not is_ours(part_of(p, path), scheme, f, e, upstream, &stays):
            return False
    u.before = part_of(value.at, path if stays else value.at)
    p = find_any(path, end, b"?", b"#", b"#")
    u.path = part_of(path, p)
    u.after = part_of(p, end)
    # "%2" is read in different ways: what follows a cut escape cannot be judged.
    return escapes_are_whole(u.path)


# How many dots a segment is, 0 if it is something else. Browsers read %2e as a dot.
cdef int dots_of(part_t p) noexcept nogil:
    cdef uint32_t i = 0
    cdef int dots = 0

    while i < p.size:
        if p.at[i] == b".":
            i += 1
        elif p.size - i >= 3 and same(p.at + i, 3, b"%2e"):
            i += 3
        else:
            return 0
        dots += 1
    return dots if dots <= 2 else 0  # "..." is a name like any other


# What a path may have, RFC 3986 3.3; escapes were looked at before.
cdef inline bint is_pchar(char c) noexcept nogil:
    cdef char l = lower(c)

    return (l >= b"a" and l <= b"z") or is_digit(c) or c == b"%" or c == b"-" or (
        c == b"." or c == b"_" or c == b"~" or c == b"!" or c == b"$" or c == b"&"
    ) or (
        c == b"'" or c == b"(" or c == b")" or c == b"*" or c == b"+" or c == b","
    ) or c == b";" or c == b"=" or c == b":" or c == b"@"


cdef void put_segment(out_t* o, part_t p) noexcept nogil:
    cdef const char* digits = b"0123456789ABCDEF"
    cdef char escape[3]
    cdef uint32_t i

    out_put(o, b"/", 1)
    for i in range(p.size):
        if is_pchar(p.at[i]):
            out_put(o, p.at + i, 1)
        else:
            # Browsers read a backslash as a slash and skip tabs (WHATWG URL, 4.4): as
            # an escape neither makes a new segment.
            escape[0] = b"%"
            escape[1] = digits[<uint8_t>p.at[i] >> 4]
            escape[2] = digits[<uint8_t>p.at[i] & 15]
            out_put(o, escape, 3)


# A path without empty and dot segments (RFC 3986 5.2.4), with the slash at its end, if
# it has one. Without empty ones, because "//host" at the beginning of what is written
# would be an authority.
cdef void put_clean(out_t* o, part_t path, bint raw) noexcept nogil:
    cdef size_t start = o.size
    cdef const char* p = path.at
    cdef const char* end = p + path.size
    cdef const char* next_
    cdef bint slash = True
    cdef int dots

    while p < end:
        p += 1  # its slash
        next_ = find_any(p, end, b"/", b"/", b"/")
        dots = dots_of(part_of(p, next_))
        slash = dots > 0 or next_ == p
        if dots == 2:
            # Take back the last segment that was written; above the root there is none.
            while o.size > start and o.bytes[o.size - 1] != b"/":
                o.size -= 1
            if o.size > start:
                o.size -= 1
        elif not slash and raw:
            out_put(o, b"/", 1)
            put_part(o, part_of(p, next_))
        elif not slash:
            put_segment(o, part_of(p, next_))
        p = next_
    # "/a/.." and "/a/." are directories, and so is the empty path of "http://host".
    if slash:
        out_put(o, b"/", 1)


# Map the path that was written at `start`; False = no mapping is about it.
cdef bint map_path(
    out_t* o, size_t start, const filter_t* f, const edits_t* e
) noexcept nogil:
    cdef part_t path = part_of(o.bytes + start, o.bytes + o.size)
    cdef part_t old, new
    cdef uint32_t i, rest

    # The first mapping that fits counts, as Python ordered them. The path is moved
    # within the buffer, from behind its old prefix to behind the new one.
    for i in range(f.mapping_count):
        old = text_part(e, f.mappings[i].from_)
        if not is_under(path, old):
            continue
        new = text_part(e, f.mappings[i].to)
        if is_under(new, old) and is_under(path, new):
            return True  # the upstream knows our prefix, and has written it itself
        rest = path.size - old.size
        if start + new.size + rest + 1 > o.room:  # one more for the slash below
            o.full = True
            return True
        memmove(o.bytes + start + new.size, path.at + old.size, rest)
        o.size = start
        out_put(o, new.at, new.size)
        o.size += rest
        if o.size == start:
            out_put(o, b"/", 1)  # the path was the old prefix; the new one is "/"
        return True
    return False


cdef bint put_url(
    out_t* o, part_t value, const filter_t* f, const edits_t* e, const addr_t* upstream,
    bint raw,
) noexcept nogil:
    cdef size_t start = o.size
    cdef size_t path
    cdef url_t u

    if url_split(&u, value, f, e, upstream):
        put_part(o, u.before)
        path = o.size
        put_clean(o, u.path, raw)
        if not o.full and map_path(o, path, f, e):
            put_part(o, u.after)
            return True
    # Not for us: undo what was written, and pass the value on byte by byte.
    o.size = start
    put_part(o, value)
    return False
