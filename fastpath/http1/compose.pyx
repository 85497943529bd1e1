"""Writing heads. The framing headers are ours; all others are passed on in the order
and the spelling in which they came."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, strlen

from fastpath.base.linux.clock cimport http_date
from fastpath.base.linux.socket cimport AF_INET, AF_INET6, inet_ntop
from fastpath.http1.codings cimport CODINGS_MORE, codings_line, is_codings
from fastpath.http1.field cimport (
    DOT,
    H_HOST,
    H_UPGRADE,
    H_X_FORWARDED_FOR,
    ZERO,
    same,
    span_t,
)
from fastpath.http1.framing cimport BODY_CHUNKED, header_t

cdef void out_put(out_t* o, const char* bytes, size_t size) noexcept nogil:
    if o.size + size > o.room:
        o.full = True
        return
    memcpy(o.bytes + o.size, bytes, size)
    o.size += size


cdef inline void put_text(out_t* o, const char* text) noexcept nogil:
    out_put(o, text, strlen(text))


cdef inline void put_span(out_t* o, const char* bytes, span_t s) noexcept nogil:
    out_put(o, bytes + s.at, s.size)


cdef void put_header(out_t* o, const char* bytes, const header_t* h) noexcept nogil:
    cdef char* to = o.bytes + o.size
    cdef size_t size = h.name.size + h.value.size + 4

    if o.size + size > o.room:
        o.full = True
        return
    memcpy(to, bytes + h.name.at, h.name.size)
    to += h.name.size
    to[0] = b":"
    to[1] = b" "
    memcpy(to + 2, bytes + h.value.at, h.value.size)
    to += 2 + h.value.size
    to[0] = b"\r"
    to[1] = b"\n"
    o.size += size


cdef int edit_find(
    const headers_t* e, const char* text, const char* bytes, const header_t* h
) noexcept nogil:
    cdef const edit_t* edit
    cdef uint32_t i

    for i in range(e.count):
        edit = &e.list[i]
        if (
            h.name.size == edit.name.size
            or edit.is_prefix and h.name.size > edit.name.size
        ) and same(bytes + h.name.at, edit.name.size, text + edit.name.at):
            return <int>i
    return -1


cdef void put_request_line(
    out_t* o, const head_t* h, const char* bytes, const edits_t* e
) noexcept nogil:
    cdef span_t path = h.path
    cdef uint32_t strip = e.strip if e.strip < path.size else path.size

    put_span(o, bytes, h.method)
    out_put(o, b" ", 1)
    if path.size == 1 and bytes[path.at] == b"*":
        strip = 0
    else:
        out_put(o, e.text + e.prefix.at, e.prefix.size)
    path.at += strip
    path.size -= strip
    if path.size + e.prefix.size == 0:
        out_put(o, b"/", 1)
    put_span(o, bytes, path)
    put_span(o, bytes, h.query)
    out_put(o, b" HTTP/1.1\r\nHost: ", 17)
    if e.host.size > 0:
        out_put(o, e.text + e.host.at, e.host.size)
    else:
        put_span(o, bytes, h.host)
    out_put(o, b"\r\n", 2)


# inet_ntop(3) formats by sprintf(3), which costs 1 % of a small request.
cdef void put_ipv4(out_t* o, const uint8_t* ip) noexcept nogil:
    cdef char text[16]
    cdef uint32_t at = 0
    cdef int i

    for i in range(4):
        if i > 0:
            text[at] = DOT
            at += 1
        if ip[i] >= 100:
            text[at] = ZERO + ip[i] // 100
            at += 1
        if ip[i] >= 10:
            text[at] = ZERO + ip[i] // 10 % 10
            at += 1
        text[at] = ZERO + ip[i] % 10
        at += 1
    out_put(o, text, at)


cdef void put_forwarded_for(
    out_t* o, const head_t* h, const char* bytes, const addr_t* client, bint fold
) noexcept nogil:
    cdef char text[64]
    cdef uint32_t i

    # Several lines become one list: a backend that reads only the first gets it all.
    out_put(o, b"X-Forwarded-For: ", 17)
    for i in range(h.count):
        if fold and h.headers[i].known == H_X_FORWARDED_FOR:
            put_span(o, bytes, h.headers[i].value)
            out_put(o, b", ", 2)
    if client.family == AF_INET:
        put_ipv4(o, client.ip)
    elif inet_ntop(client.family, client.ip, text, sizeof(text)) != NULL:
        put_text(o, text)
    out_put(o, b"\r\n", 2)


cdef bint is_listed(
    const char* list_, uint32_t list_size, const char* word, uint32_t size
) noexcept nogil:
    cdef uint32_t at = 1
    cdef uint32_t end

    while at < list_size:
        end = at
        while list_[end] != b",":
            end += 1
        if size == end - at and same(word, size, list_ + at):
            return True
        at = end + 1
    return False


cdef bint upgrade_allowed(
    const head_t* h, const char* bytes, const edits_t* e
) noexcept nogil:
    cdef const header_t* header
    cdef bint asked = False
    cdef uint32_t i

    if e.any_upgrade:
        return True
    # All lines are sent on, so that each has to be allowed.
    for i in range(h.count):
        header = &h.headers[i]
        if header.known == H_UPGRADE:
            asked = True
            if not is_listed(
                e.text + e.upgrades.at, e.upgrades.size,
                bytes + header.value.at, header.value.size,
            ):
                return False
    return asked


cdef void put_edits(
    out_t* o, const headers_t* e, const char* text, uint64_t seen
) noexcept nogil:
    cdef const edit_t* edit
    cdef uint32_t i

    for i in range(e.count):
        edit = &e.list[i]
        if not edit.only_absent or not seen >> i & 1:
            out_put(o, text + edit.line.at, edit.line.size)


cdef void put_codings(out_t* o, const char* bytes, const header_t* h) noexcept nogil:
    if o.size + h.name.size + 2 * h.value.size + CODINGS_MORE > o.room:
        o.full = True
    else:
        o.size += codings_line(o.bytes + o.size, bytes, h)


cdef void compose_request(
    out_t* o, const head_t* h, const char* bytes, const edits_t* e,
    const addr_t* client, bint upgrade,
) noexcept nogil:
    cdef bint forwarded = e.forwarded_for and (
        client.family == AF_INET or client.family == AF_INET6
    )
    cdef bint fold = True  # the client's own, unless the edits take it away
    cdef const header_t* header
    cdef uint64_t seen = 0
    cdef uint32_t i
    cdef int edit

    put_request_line(o, h, bytes, e)
    for i in range(h.count):
        header = &h.headers[i]
        if header.known == H_HOST:
            continue
        if header.hop:
            if upgrade and header.known == H_UPGRADE:
                put_header(o, bytes, header)
            continue
        edit = edit_of(&e.headers, e.text, bytes, header)
        if edit >= 0 and header.value.size == 0 and e.headers.list[edit].only_absent:
            continue  # an empty one counts as absent
        if edit >= 0:
            seen |= <uint64_t>1 << edit
            if not e.headers.list[edit].only_absent:
                fold &= header.known != H_X_FORWARDED_FOR
                continue
        if e.pages and is_codings(bytes, header):
            put_codings(o, bytes, header)
        elif not forwarded or header.known != H_X_FORWARDED_FOR:
            put_header(o, bytes, header)
    put_edits(o, &e.headers, e.text, seen)
    if forwarded:
        put_forwarded_for(o, h, bytes, client, fold)
    if h.body == BODY_CHUNKED:
        out_put(o, b"Transfer-Encoding: chunked\r\n", 28)
    if upgrade:
        out_put(o, b"Connection: Upgrade\r\n", 21)
    out_put(o, b"\r\n", 2)


cdef void put_connection(out_t* o, uint16_t minor, bint keep) noexcept nogil:
    if not keep:
        out_put(o, b"Connection: close\r\n", 19)
    elif minor == 0:
        out_put(o, b"Connection: keep-alive\r\n", 24)


cdef void compose_status(out_t* o, const head_t* h, const char* bytes) noexcept nogil:
    cdef char digits[4]

    out_put(o, b"HTTP/1.1 ", 9)
    digits[0] = ZERO + <char>(h.status // 100)
    digits[1] = ZERO + <char>(h.status // 10 % 10)
    digits[2] = ZERO + <char>(h.status % 10)
    digits[3] = b" "
    out_put(o, digits, sizeof(digits))
    put_span(o, bytes, h.reason)
    out_put(o, b"\r\n", 2)


cdef void compose_end(
    out_t* o, const head_t* h, uint16_t minor, bint keep, bint unchunk
) noexcept nogil:
    if h.body == BODY_CHUNKED and not unchunk:
        out_put(o, b"Transfer-Encoding: chunked\r\n", 28)
    if h.status >= 200:
        put_connection(o, minor, keep)
    out_put(o, b"\r\n", 2)


cdef void compose_response(
    out_t* o, const head_t* h, const char* bytes, uint16_t minor, bint keep,
    bint unchunk,
) noexcept nogil:
    cdef bint chunked = h.body == BODY_CHUNKED and not unchunk
    cdef uint32_t i

    compose_status(o, h, bytes)
    for i in range(h.count):
        if compose_passes(h, &h.headers[i], chunked):
            put_header(o, bytes, &h.headers[i])
    compose_end(o, h, minor, keep, unchunk)


# ---- Replies of our own.

cdef const char* reason_of(uint16_t status) noexcept nogil:
    if status == 400:
        return b"Bad Request"
    if status == 401:
        return b"Unauthorized"
    if status == 405:
        return b"Method Not Allowed"
    if status == 408:
        return b"Request Timeout"
    if status == 414:
        return b"URI Too Long"
    if status == 429:
        return b"Too Many Requests"
    if status == 431:
        return b"Request Header Fields Too Large"
    if status == 500:
        return b"Internal Server Error"
    if status == 501:
        return b"Not Implemented"
    if status == 502:
        return b"Bad Gateway"
    if status == 503:
        return b"Service Unavailable"
    if status == 504:
        return b"Gateway Timeout"
    if status == 505:
        return b"HTTP Version Not Supported"
    return b"Error"


cdef void put_end(out_t* o, uint16_t minor, bint keep) noexcept nogil:
    cdef char line[64]

    http_date(line, sizeof(line))
    out_put(o, b"Date: ", 6)
    put_text(o, line)
    out_put(o, b"\r\n", 2)
    put_connection(o, minor, keep)
    out_put(o, b"\r\n", 2)


cdef void compose_reply(
    out_t* o, const char* head, uint32_t head_size, const char* body,
    uint32_t body_size, uint16_t minor, bint keep, bint to_head,
) noexcept nogil:
    out_put(o, head, head_size)
    put_end(o, minor, keep)
    if not to_head:
        out_put(o, body, body_size)


cdef inline bint needs_escape(char c) noexcept nogil:
    # Those of HTML, too: no tag can begin in a message.
    return (
        <unsigned char>c < 0x20 or <unsigned char>c > 0x7E or c == b'"' or c == b"\\"
        or c == b"<" or c == b">" or c == b"&"
    )


cdef size_t escaped_size(const char* text) noexcept nogil:
    cdef size_t size = 0

    while text[0] != 0:
        size += 6 if needs_escape(text[0]) else 1
        text += 1
    return size


cdef void put_escaped(out_t* o, const char* text) noexcept nogil:
    cdef char code[8]

    while text[0] != 0:
        if needs_escape(text[0]):
            snprintf(code, sizeof(code), b"\\u%04x", <unsigned char>text[0])
            out_put(o, code, 6)
        else:
            out_put(o, text, 1)
        text += 1


cdef void compose_between(
    out_t* o, const char* head, const char* before, const char* text,
    const char* after, uint16_t minor, bint keep, bint to_head,
) noexcept nogil:
    cdef size_t size = strlen(before) + escaped_size(text) + strlen(after)
    cdef char length[64]

    put_text(o, head)
    snprintf(length, sizeof(length), b"Content-Length: %zu\r\n", size)
    put_text(o, length)
    put_end(o, minor, keep)
    if not to_head:
        put_text(o, before)
        put_escaped(o, text)
        put_text(o, after)


cdef void compose_text(
    out_t* o, uint16_t status, const char* text, uint16_t minor, bint keep,
    bint to_head,
) noexcept nogil:
    cdef size_t size = strlen(text)
    cdef char head[256]

    snprintf(
        head, sizeof(head),
        b"HTTP/1.1 %u %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"X-Content-Type-Options: nosniff\r\nContent-Length: %zu\r\n",
        <unsigned int>status, reason_of(status), size + 1,
    )
    put_text(o, head)
    put_end(o, minor, keep)
    if not to_head:
        out_put(o, text, size)
        out_put(o, b"\n", 1)
