"""Names of HTTP fields: recognized by length and first letter, without a table."""


cdef bint span_is(const char* bytes, span_t s, const char* text) noexcept nogil:
    cdef uint32_t i

    for i in range(s.size):
        if text[i] == 0 or lower(bytes[s.at + i]) != text[i]:
            return False
    return text[s.size] == 0


cdef HEADER header_known(const char* name, uint32_t size) noexcept nogil:
    cdef char first = name[0] | 0x20 if size else 0

    if size == 2 and same(name, 2, b"te"):
        return H_TE
    elif size == 4 and first == b"h" and same(name, 4, b"host"):
        return H_HOST
    elif size == 6:
        if first == b"c" and same(name, 6, b"cookie"):
            return H_COOKIE
        if first == b"e" and same(name, 6, b"expect"):
            return H_EXPECT
    elif size == 7:
        if first == b"t" and same(name, 7, b"trailer"):
            return H_TRAILER
        if first == b"u" and same(name, 7, b"upgrade"):
            return H_UPGRADE
    elif size == 10:
        if first == b"c" and same(name, 10, b"connection"):
            return H_CONNECTION
        if first == b"k" and same(name, 10, b"keep-alive"):
            return H_KEEP_ALIVE
    elif size >= 13 and size <= 19:
        return long_known(name, size, first)
    return H_OTHER


cdef HEADER long_known(const char* name, uint32_t size, char first) noexcept nogil:
    if size == 13 and first == b"a" and same(name, 13, b"authorization"):
        return H_AUTHORIZATION
    if size == 14 and first == b"c" and same(name, 14, b"content-length"):
        return H_CONTENT_LENGTH
    if size == 15 and first == b"x" and same(name, 15, b"x-forwarded-for"):
        return H_X_FORWARDED_FOR
    if size == 17 and first == b"t" and same(name, 17, b"transfer-encoding"):
        return H_TRANSFER_ENCODING
    if first != b"p":
        return H_OTHER
    if size == 16 and same(name, 16, b"proxy-connection"):
        return H_PROXY_CONNECTION
    if size == 18 and same(name, 18, b"proxy-authenticate"):
        return H_PROXY_AUTHENTICATE
    if size == 19 and same(name, 19, b"proxy-authorization"):
        return H_PROXY_AUTHORIZATION
    return H_OTHER


cdef bint header_is_guarded(const char* name, uint32_t size) noexcept nogil:
    cdef HEADER known = header_known(name, size)

    if (
        known == H_HOST or known == H_CONTENT_LENGTH or known == H_EXPECT
        or known == H_AUTHORIZATION or known == H_COOKIE
    ):
        return True
    return (
        size >= 12 and same(name, 12, b"x-forwarded-")
        or size >= 12 and same(name, 12, b"impersonate-")
        or size >= 9 and same(name, 9, b"x-remote-")
        or size == 9 and same(name, 9, b"forwarded")
        or size == 9 and same(name, 9, b"x-real-ip")
        or size == 6 and same(name, 6, b"origin")
    )
