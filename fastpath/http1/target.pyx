"""Request targets: which form one has, and its parts. Percent signs mean nothing here:
policies decode a path where they need to."""

from libc.string cimport memchr, memcmp

from fastpath.base.linux.bytes cimport memrchr
from fastpath.http1.field cimport CLASS_HOST, is_a, is_digit, same

cdef enum:
    PORT_DIGITS = 5


cdef bint port_is_fine(const char* p, const char* end) noexcept nogil:
    # An empty port is legal, but no client sends one in good faith.
    if end - p < 2 or end - p > 1 + PORT_DIGITS or p[0] != b":":
        return False
    p += 1
    while p < end and is_digit(p[0]):
        p += 1
    return p == end


cdef bint host_is_fine(const char* p, const char* end) noexcept nogil:
    cdef const char* start = p

    if p < end and p[0] == b"[":
        p += 1
        while p < end and (is_a(p[0], CLASS_HOST) or p[0] == b":"):
            p += 1
        if p == end or p[0] != b"]" or p - start < 3:
            return False
        p += 1
    else:
        while p < end and is_a(p[0], CLASS_HOST):
            p += 1
    return p > start and (p == end or port_is_fine(p, end))


cdef TARGET absolute_split(
    target_t* t, const char* bytes, const char* start, const char* end
) noexcept nogil:
    # `end` is where the query begins.
    cdef const char* slash

    if end - start > 7 and same(start, 7, b"http://"):
        start += 7
    elif end - start > 8 and same(start, 8, b"https://"):
        start += 8
    else:
        return TARGET_ODD
    slash = <const char*>memchr(start, b"/", end - start)
    if slash == NULL:
        slash = end
    t.host = between(bytes, start, slash)
    t.path = between(bytes, slash, end)
    return TARGET_ABSOLUTE if host_is_fine(start, slash) else TARGET_ODD


cdef bint authority_is_fine(const char* p, const char* end) noexcept nogil:
    cdef const char* colon = <const char*>memrchr(p, b":", end - p)

    return colon != NULL and port_is_fine(colon, end) and host_is_fine(p, end)


cdef TARGET target_split(
    target_t* t, const char* bytes, span_t method, span_t target
) noexcept nogil:
    cdef const char* p = bytes + target.at
    cdef const char* end = p + target.size
    cdef const char* verb = bytes + method.at
    cdef const char* mark = <const char*>memchr(p, b"?", target.size)

    if mark == NULL:
        mark = end
    t.query = between(bytes, mark, end)
    t.path = between(bytes, p, mark)
    if method.size == 7 and memcmp(verb, b"CONNECT", 7) == 0:
        t.path.size = 0
        return TARGET_AUTHORITY if authority_is_fine(p, end) else TARGET_ODD
    if p[0] == b"/":
        return TARGET_ORIGIN
    if p[0] != b"*":
        return absolute_split(t, bytes, p, mark)
    if target.size == 1 and method.size == 7 and memcmp(verb, b"OPTIONS", 7) == 0:
        return TARGET_ASTERISK
    return TARGET_ODD
