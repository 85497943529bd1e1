# Fields of HTTP messages, byte by byte: what a byte may be part of, and the names that
# we know.
# Sources: RFC 9110, 5; RFC 3986, 3.2.2. Functions of a byte are inline: they run once
# for each byte of a head.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath.base.linux.bytes cimport ctz64, le64toh

cdef enum:
    TAB = 9
    LF = 10
    CR = 13
    SPACE = 32
    DOT = 46
    ZERO = 48
    DELETE = 127

# A stretch of the buffer that the head was parsed from.
cdef struct span_t:
    uint32_t at
    uint32_t size

# Headers whose meaning the framing and hop-by-hop rules need. H_OTHER for all others.
cdef enum HEADER:
    H_OTHER
    H_HOST
    H_CONNECTION
    H_CONTENT_LENGTH
    H_TRANSFER_ENCODING
    H_KEEP_ALIVE
    H_PROXY_CONNECTION
    H_PROXY_AUTHENTICATE
    H_PROXY_AUTHORIZATION
    H_TE
    H_TRAILER
    H_UPGRADE
    H_EXPECT
    H_AUTHORIZATION
    H_X_FORWARDED_FOR
    H_COOKIE

# Whether the bytes of `s` equal NUL-terminated lower-case `text`, ASCII case ignored.
cdef bint span_is(const char* bytes, span_t s, const char* text) noexcept nogil

# Which header `name` is; H_OTHER if none that we know.
cdef HEADER header_known(const char* name, uint32_t size) noexcept nogil

# Whether a header names the user, the client or the object of a request. Policies
# decide by it, so that neither may Connection drop it nor a trailer add to it.
cdef bint header_is_guarded(const char* name, uint32_t size) noexcept nogil

# What a byte may be part of, for FASTPATH_CLASS[byte] & CLASS.
cdef enum CLASS:
    CLASS_TOKEN = 1          # RFC 9110, 5.6.2
    CLASS_TARGET = 2         # visible ASCII but '#': a fragment is never sent
    CLASS_HOST = 4           # reg-name of RFC 3986 but ','; '%' unchecked

cdef extern from * nogil:
    """
    #include <stdint.h>
    #define T 1
    #define U 2
    #define H 4
    static const uint8_t fastpath_class[256] __attribute__((unused)) = {
        ['!'] = T|U|H, ['"'] = U, ['#'] = T, ['$' ... '\\''] = T|U|H,
        ['(' ... ')'] = U|H, ['*' ... '+'] = T|U|H, [','] = U, ['-' ... '.'] = T|U|H,
        ['/'] = U, ['0' ... '9'] = T|U|H, [':'] = U, [';'] = U|H, ['<'] = U,
        ['='] = U|H, ['>' ... '@'] = U, ['A' ... 'Z'] = T|U|H, ['[' ... ']'] = U,
        ['^'] = T|U, ['_'] = T|U|H, ['`'] = T|U, ['a' ... 'z'] = T|U|H, ['{'] = U,
        ['|'] = T|U, ['}'] = U, ['~'] = T|U|H,
    };
    #undef T
    #undef U
    #undef H
    """
    const uint8_t FASTPATH_CLASS "fastpath_class"[256]


cdef inline bint is_a(char c, int kind) noexcept nogil:
    return FASTPATH_CLASS[<uint8_t>c] & kind


cdef inline bint is_blank(char c) noexcept nogil:
    return c == SPACE or c == TAB


cdef inline bint is_digit(char c) noexcept nogil:
    return c >= b"0" and c <= b"9"


cdef inline bint is_text(char c) noexcept nogil:
    # Tab, space, visible ASCII, and what is above ASCII: obs-text, which is let pass.
    return <uint8_t>c >= SPACE and c != DELETE or c == TAB


cdef inline char lower(char c) noexcept nogil:
    return c | 0x20 if c >= b"A" and c <= b"Z" else c


# Whether `size` bytes equal those of `text`, which is in lower case.
cdef inline bint same(
    const char* bytes, uint32_t size, const char* text
) noexcept nogil:
    cdef uint32_t i

    for i in range(size):
        if lower(bytes[i]) != text[i]:
            return False
    return True


# Of eight bytes at once: the lowest high bit that is set marks the first of them that
# is a control character. (Subtracting n borrows only above a byte that is less than n.)
cdef inline uint64_t controls(const char* bytes) noexcept nogil:
    cdef uint64_t x, y

    memcpy(&x, bytes, 8)
    x = le64toh(x)
    y = x ^ <uint64_t>0x7f7f7f7f7f7f7f7f
    x = (x - <uint64_t>0x2020202020202020) & ~x
    y = (y - <uint64_t>0x0101010101010101) & ~y
    return (x | y) & <uint64_t>0x8080808080808080


# Return the first byte from `p` on that is not text, or `end`.
cdef inline const char* text_end(const char* p, const char* end) noexcept nogil:
    cdef uint64_t found

    while end - p >= 8:
        found = controls(p)
        if found == 0:
            p += 8
            continue
        p += ctz64(found) >> 3
        if p[0] != TAB:
            return p
        p += 1
    while p < end and is_text(p[0]):
        p += 1
    return p
