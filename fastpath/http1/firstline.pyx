"""First lines: method, target and version of a request, version and status of a
response."""

from libc.string cimport memcmp, memset

from fastpath.http1.field cimport (
    CLASS_TARGET,
    CLASS_TOKEN,
    SPACE,
    ZERO,
    is_a,
    is_digit,
    text_end,
)
from fastpath.http1.framing cimport FAULT_LINE, FAULT_TARGET, FAULT_VERSION
from fastpath.http1.target cimport (
    TARGET,
    TARGET_ABSOLUTE,
    TARGET_AUTHORITY,
    TARGET_ODD,
    between,
    target_split,
    target_t,
)


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
    if p == bytes and p[0] == CR and p + 1 == end:
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
