"""HTTP/1.1 heads: one pass over the bytes, from left to right.

The first fault ends the pass, and each is found at a byte, never by what follows it: so
the outcome does not depend on how the bytes were cut. Functions that read a piece
return what stands behind it, or NULL: h.fault says why, and FAULT_NONE asks for more.
"""

from typing import NamedTuple

from libc.string cimport memchr, memset

from fastpath.base.linux.bytes cimport memrchr
from fastpath.http1.field cimport (
    CLASS_TOKEN,
    CR,
    H_HOST,
    H_OTHER,
    H_UPGRADE,
    LF,
    header_known,
    is_a,
    is_blank,
    span_t,
    text_end,
)
from fastpath.http1.firstline cimport line_end, refuse, request_line, status_line
from fastpath.http1.framing cimport (
    ANSWER_BYTES,
    ANSWER_LINES,
    BODY_NONE,
    FAULT_EOL,
    FAULT_FOLD,
    FAULT_HOST,
    FAULT_LONG_TARGET,
    FAULT_NAME,
    FAULT_NONE,
    FAULT_TOO_LARGE,
    FAULT_TOO_LONG,
    FAULT_TOO_MANY,
    FAULT_UPGRADE,
    FAULT_VALUE,
    framing_read_body,
    framing_read_connection,
    framing_read_header,
    framing_read_response_body,
    head_allow,
    head_ready,
    header_t,
    request_head_t,
)
from fastpath.http1.target cimport between

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

    if size > h.most.bytes:
        size = h.most.bytes
    last = bytes + size
    while p != NULL:
        h.size = <uint32_t>(p - bytes)
        end = p + h.most.line_bytes if last - p > h.most.line_bytes else last
        if p < end and p[0] == CR:
            p = line_end(h, p, end, FAULT_NAME)
            if p == NULL:
                break
            h.size = <uint32_t>(p - bytes)
            return 1
        if p < end and h.count == h.most.lines:
            h.fault = FAULT_TOO_MANY
            break
        p = header_line(h, bytes, p, end)
    if h.fault:
        return -1
    if size - h.size >= h.most.line_bytes and h.most.line_bytes < h.most.bytes:
        h.fault = FAULT_TOO_LONG if h.size else FAULT_LONG_TARGET
    elif size == h.most.bytes:
        h.fault = FAULT_TOO_LARGE
    return -1 if h.fault else 0


cdef bint can_wait(
    head_t* h, const char* bytes, uint32_t size, uint32_t from_
) noexcept nogil:
    """Whether the bytes from `from_` on neither end a line nor overrun a limit: then
    they need no look, and one byte at a time costs no more than a line at a time."""
    cdef const char* line

    h.fault = FAULT_NONE
    if from_ == 0 or size >= h.most.bytes:
        return False
    if memchr(bytes + from_, LF, size - from_) != NULL:
        return False
    line = <const char*>memrchr(bytes, LF, from_)
    line = bytes if line == NULL else line + 1
    return bytes + size - line < h.most.line_bytes


# Where the first line ends at the latest; all that an earlier parse has left is gone.
cdef const char* head_begin(head_t* h, const char* bytes, uint32_t size) noexcept nogil:
    memset(&h.size, 0, sizeof(head_t) - (<char*>&h.size - <char*>h))
    return bytes + (size if size < h.most.line_bytes else h.most.line_bytes)


cdef uint32_t head_skip_empty(
    const char* bytes, uint32_t size, uint8_t* lines
) noexcept nogil:
    cdef uint32_t at = 0

    while (
        size - at >= 2 and bytes[at] == CR and bytes[at + 1] == LF
        and lines[0] < EMPTY_LINES_MOST
    ):
        lines[0] += 1
        at += 2
    return at


cdef int head_parse_request(
    head_t* h, const char* bytes, uint32_t size, uint32_t from_
) noexcept nogil:
    cdef int whole

    if can_wait(h, bytes, size, from_):
        return 0
    whole = headers_read(
        h, bytes, size, request_line(h, bytes, head_begin(h, bytes, size))
    )
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
    cdef int whole

    if can_wait(h, bytes, size, from_):
        return 0
    whole = headers_read(
        h, bytes, size, status_line(h, bytes, head_begin(h, bytes, size))
    )
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
    been given before. Empty lines before it count in its `size`, and nowhere else."""
    cdef request_head_t room
    cdef head_t* h = head_ready(&room)
    cdef uint8_t lines = 0
    cdef uint32_t empty = head_skip_empty(data, len(data), &lines)
    cdef int whole

    data, seen = data[empty:], max(seen, empty) - empty
    whole = head_parse_request(h, data, len(data), min(seen, len(data)))
    if whole < 0:
        raise head_error(h.fault)
    if whole == 0:
        return None
    return RequestHead(
        empty + h.size, h.minor, cut(data, h.method), cut(data, h.target),
        cut(data, h.path), cut(data, h.query), cut(data, h.host), bool(h.absolute),
        headers_of(h, data),
        BODY_NAMES[h.body], h.length, bool(h.keep_alive), bool(h.upgrade),
        bool(h.expects),
    )


def parse_response(bytes data, bint to_head=False, uint32_t seen=0):
    """As parse_request; `to_head` = the request was a HEAD."""
    cdef header_t lines[ANSWER_LINES]
    cdef head_t h
    cdef int whole

    h.headers = lines
    head_allow(&h, ANSWER_BYTES, ANSWER_LINES)
    whole = head_parse_response(&h, data, len(data), min(seen, len(data)), to_head)
    if whole < 0:
        raise head_error(h.fault)
    if whole == 0:
        return None
    return ResponseHead(
        h.size, h.minor, h.status, cut(data, h.reason), headers_of(&h, data),
        BODY_NAMES[h.body], h.length, bool(h.keep_alive), bool(h.upgrade),
    )
