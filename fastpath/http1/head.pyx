"""HTTP/1.1 heads: one pass over the bytes, from left to right.

The first fault ends the pass, and each is found at a byte, never by what follows it: so
the outcome does not depend on how the bytes were cut. Functions that read a piece
return what stands behind it, or NULL: h.fault says why, and FAULT_NONE asks for more.
"""

from typing import NamedTuple

from libc.string cimport memchr, memcmp, memset

from fastpath.base.linux.bytes cimport memrchr
from fastpath.http1.field cimport (
    CLASS_TARGET,
    CLASS_TOKEN,
    CR,
    H_HOST,
    H_OTHER,
    H_UPGRADE,
    LF,
    SPACE,
    ZERO,
    header_known,
    is_a,
    is_blank,
    is_digit,
    span_t,
    text_end,
)
from fastpath.http1.framing cimport (
    BODY_NONE,
    FAULT,
    FAULT_EOL,
    FAULT_FOLD,
    FAULT_HOST,
    FAULT_LINE,
    FAULT_LONG_TARGET,
    FAULT_NAME,
    FAULT_NONE,
    FAULT_TARGET,
    FAULT_TOO_LARGE,
    FAULT_TOO_LONG,
    FAULT_TOO_MANY,
    FAULT_UPGRADE,
    FAULT_VALUE,
    FAULT_VERSION,
    HEADERS_MOST,
    HEAD_BYTES_MOST,
    LINE_BYTES_MOST,
    framing_read_body,
    framing_read_connection,
    framing_read_header,
    framing_read_response_body,
    header_t,
)
from fastpath.http1.target cimport (
    TARGET,
    TARGET_ABSOLUTE,
    TARGET_AUTHORITY,
    TARGET_ODD,
    between,
    target_split,
    target_t,
)

from fastpath.http1.framing import HeadError, head_error

__all__ = [
    "HeadError",
    "Header",
    "RequestHead",
    "ResponseHead",
    "parse_request",
    "parse_response",
]

BODY_NAMES = ("none", "sized", "chunked", "to_eof")


cdef inline const char* refuse(head_t* h, FAULT fault) noexcept nogil:
    h.fault = fault
    return NULL


cdef inline const char* line_end(
    head_t* h, const char* p, const char* end, FAULT otherwise
) noexcept nogil:
    if p == end:
        return NULL
    if p[0] != CR:
        return refuse(h, FAULT_EOL if p[0] == LF else otherwise)
    if p + 1 == end:
        return NULL
    if p[1] != LF:
        return refuse(h, otherwise)
    return p + 2


cdef const char* version_read(
    head_t* h, const char* p, const char* end
) noexcept nogil:
    cdef const char* model = b"HTTP/0.0"
    cdef int i

    if end - p >= 8 and memcmp(p, b"HTTP/1.", 7) == 0 and (p[7] | 1) == b"1":
        h.minor = p[7] == b"1"
        return p + 8
    for i in range(8):  # the slow way: which of its bytes is wrong?
        if p + i == end:
            return NULL
        if p[i] != model[i] and not (model[i] == b"0" and is_digit(p[i])):
            return refuse(h, FAULT_LINE)
    return refuse(h, FAULT_VERSION)


cdef bint target_read(head_t* h, const char* bytes) noexcept nogil:
    cdef target_t t
    cdef TARGET form

    memset(&t, 0, sizeof(target_t))
    form = target_split(&t, bytes, h.method, h.target)
    h.path = t.path
    h.query = t.query
    h.host = t.host
    h.absolute = form == TARGET_ABSOLUTE
    h.is_connect = form == TARGET_AUTHORITY
    return form != TARGET_ODD


cdef const char* request_line(
    head_t* h, const char* bytes, const char* end
) noexcept nogil:
    cdef const char* p = bytes
    cdef const char* start

    while p < end and is_a(p[0], CLASS_TOKEN):
        p += 1
    if p == end:
        return NULL
    if p == bytes or p[0] != SPACE:
        return refuse(h, FAULT_LINE)
    h.method = between(bytes, bytes, p)
    h.is_head = h.method.size == 4 and memcmp(bytes, b"HEAD", 4) == 0
    p += 1
    start = p
    while p < end and is_a(p[0], CLASS_TARGET):
        p += 1
    if p == end:
        return NULL
    h.target = between(bytes, start, p)
    if p[0] != SPACE or not target_read(h, bytes):
        return refuse(h, FAULT_TARGET)
    p = version_read(h, p + 1, end)
    return p if p == NULL else line_end(h, p, end, FAULT_LINE)


cdef const char* status_line(
    head_t* h, const char* bytes, const char* end
) noexcept nogil:
    cdef const char* p = version_read(h, bytes, end)
    cdef const char* start
    cdef int i

    if p == NULL or p == end:
        return NULL
    if p[0] != SPACE:
        return refuse(h, FAULT_LINE)
    p += 1
    for i in range(3):
        if p == end:
            return NULL
        if not is_digit(p[0]) or (i == 0 and p[0] == b"0"):
            return refuse(h, FAULT_LINE)
        h.status = h.status * 10 + (p[0] - ZERO)
        p += 1
    # RFC 9112, 4 wants the space even if there is no reason; servers forget it.
    start = p
    if p < end and p[0] == SPACE:
        start = p + 1
        p = text_end(start, end)
    h.reason = between(bytes, start, p)
    return line_end(h, p, end, FAULT_LINE)


cdef const char* header_line(
    head_t* h, const char* bytes, const char* p, const char* end
) noexcept nogil:
    cdef header_t* header = &h.headers[h.count]
    cdef const char* start = p

    while p < end and is_a(p[0], CLASS_TOKEN):
        p += 1
    if p == end:
        return NULL
    if p == start or p[0] != b":":
        if p[0] == LF:
            return refuse(h, FAULT_EOL)
        return refuse(h, FAULT_FOLD if p == start and is_blank(p[0]) else FAULT_NAME)
    header.name = between(bytes, start, p)
    header.known = header_known(start, header.name.size)
    header.hop = 0
    p += 1
    while p < end and is_blank(p[0]):
        p += 1
    start = p
    p = text_end(p, end)
    header.value = between(bytes, start, p)
    p = line_end(h, p, end, FAULT_VALUE)
    if p == NULL:
        return NULL
    while header.value.size and is_blank(start[header.value.size - 1]):
        header.value.size -= 1
    h.count += 1
    if header.known != H_OTHER:
        framing_read_header(h, bytes, h.count - 1)
    return p if h.fault == FAULT_NONE else NULL


cdef int headers_read(
    head_t* h, const char* bytes, uint32_t size, const char* p
) noexcept nogil:
    """The header lines from `p` on. Return as head_parse_request does."""
    cdef const char* last
    cdef const char* end

    if size > HEAD_BYTES_MOST:
        size = HEAD_BYTES_MOST
    last = bytes + size
    while p != NULL:
        h.size = <uint32_t>(p - bytes)
        end = p + LINE_BYTES_MOST if last - p > LINE_BYTES_MOST else last
        if p < end and p[0] == CR:
            p = line_end(h, p, end, FAULT_NAME)
            if p == NULL:
                break
            h.size = <uint32_t>(p - bytes)
            return 1
        if p < end and h.count == HEADERS_MOST:
            h.fault = FAULT_TOO_MANY
            break
        p = header_line(h, bytes, p, end)
    if h.fault:
        return -1
    if size - h.size >= LINE_BYTES_MOST:
        h.fault = FAULT_TOO_LONG if h.size else FAULT_LONG_TARGET
    elif size == HEAD_BYTES_MOST:
        h.fault = FAULT_TOO_LARGE
    return -1 if h.fault else 0


cdef bint can_wait(
    head_t* h, const char* bytes, uint32_t size, uint32_t from_
) noexcept nogil:
    """Whether the bytes from `from_` on neither end a line nor overrun a limit: then
    they need no look, and one byte at a time costs no more than a line at a time."""
    cdef const char* line

    h.fault = FAULT_NONE
    if from_ == 0 or size >= HEAD_BYTES_MOST:
        return False
    if memchr(bytes + from_, LF, size - from_) != NULL:
        return False
    line = <const char*>memrchr(bytes, LF, from_)
    line = bytes if line == NULL else line + 1
    return bytes + size - line < LINE_BYTES_MOST


cdef int head_parse_request(
    head_t* h, const char* bytes, uint32_t size, uint32_t from_
) noexcept nogil:
    cdef uint32_t line = size if size < LINE_BYTES_MOST else LINE_BYTES_MOST
    cdef int whole

    if can_wait(h, bytes, size, from_):
        return 0
    memset(h, 0, sizeof(head_t) - sizeof(h.headers))
    whole = headers_read(h, bytes, size, request_line(h, bytes, bytes + line))
    if whole != 1:
        return whole
    framing_read_connection(h, bytes)
    framing_read_body(h)
    if h.minor and not h.seen & 1 << H_HOST:
        h.fault = FAULT_HOST
    elif h.body != BODY_NONE and (h.seen & 1 << H_UPGRADE or h.is_connect):
        h.fault = FAULT_UPGRADE
    return -1 if h.fault else 1


cdef int head_parse_response(
    head_t* h, const char* bytes, uint32_t size, uint32_t from_, bint to_head
) noexcept nogil:
    cdef uint32_t line = size if size < LINE_BYTES_MOST else LINE_BYTES_MOST
    cdef int whole

    if can_wait(h, bytes, size, from_):
        return 0
    memset(h, 0, sizeof(head_t) - sizeof(h.headers))
    whole = headers_read(h, bytes, size, status_line(h, bytes, bytes + line))
    if whole != 1:
        return whole
    framing_read_connection(h, bytes)
    framing_read_response_body(h, to_head)
    return -1 if h.fault else 1


# ---- The door for tests


class Header(NamedTuple):
    name: bytes
    value: bytes
    hop: bool


class RequestHead(NamedTuple):
    size: int
    minor: int
    method: bytes
    target: bytes
    path: bytes
    query: bytes
    host: bytes
    absolute: bool
    headers: tuple
    body: str
    length: int
    keep_alive: bool
    upgrade: bool
    expects: bool


class ResponseHead(NamedTuple):
    size: int
    minor: int
    status: int
    reason: bytes
    headers: tuple
    body: str
    length: int
    keep_alive: bool
    upgrade: bool


cdef bytes cut(bytes data, span_t s):
    return data[s.at : s.at + s.size]


cdef tuple headers_of(head_t* h, bytes data):
    cdef uint16_t i
    headers = []
    for i in range(h.count):
        name = cut(data, h.headers[i].name)
        value = cut(data, h.headers[i].value)
        headers.append(Header(name, value, bool(h.headers[i].hop)))
    return tuple(headers)


def parse_request(bytes data, uint32_t seen=0):
    """The head that `data` begins with; None = it is not whole. `seen` bytes of it have
    been given before."""
    cdef head_t h
    cdef int whole = head_parse_request(&h, data, len(data), min(seen, len(data)))

    if whole < 0:
        raise head_error(h.fault)
    if whole == 0:
        return None
    return RequestHead(
        h.size, h.minor, cut(data, h.method), cut(data, h.target), cut(data, h.path),
        cut(data, h.query), cut(data, h.host), bool(h.absolute), headers_of(&h, data),
        BODY_NAMES[h.body], h.length, bool(h.keep_alive), bool(h.upgrade),
        bool(h.expects),
    )


def parse_response(bytes data, bint to_head=False, uint32_t seen=0):
    """As parse_request; `to_head` = the request was a HEAD."""
    cdef head_t h
    cdef int whole = head_parse_response(
        &h, data, len(data), min(seen, len(data)), to_head
    )

    if whole < 0:
        raise head_error(h.fault)
    if whole == 0:
        return None
    return ResponseHead(
        h.size, h.minor, h.status, cut(data, h.reason), headers_of(&h, data),
        BODY_NAMES[h.body], h.length, bool(h.keep_alive), bool(h.upgrade),
    )
