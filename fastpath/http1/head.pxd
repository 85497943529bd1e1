# HTTP/1.1 heads, sans I/O: a strict parser. It points into the caller's buffer, copies
# and allocates nothing, and is never more lenient than llhttp in strict mode.
# Sources: RFC 9110, RFC 9112.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

# Everything about messages can be had from here.
from fastpath.http1.framing cimport (
    FAULT,
    FAULT_LONG_TARGET,
    FAULT_TOO_LARGE,
    FAULT_TOO_LONG,
    FAULT_TOO_MANY,
    head_t,
)

cdef enum:
    EMPTY_LINES_MOST = 8     # before a request line

# Empty lines before a request line are ignored: of clients that end a body with one
# (RFC 9112, 2.2). Return how many bytes of them `bytes` begins with; `lines` counts
# them, and no more than EMPTY_LINES_MOST of them are taken. A line feed without a
# carriage return is as wrong there as it is anywhere.
cdef uint32_t head_skip_empty(
    const char* bytes, uint32_t size, uint8_t* lines
) noexcept nogil

# Parse a request head from `size` bytes. `from_` is how many of them an earlier call
# has looked at already (0 at first): the search for the end goes on there.
# Return 1 when the head is whole, 0 when more bytes are needed (and none of those seen
# is wrong, as far as can be told), -1 when it is refused: see h.fault.
# Empty lines before a request line are refused, see head_skip_empty; a lone CR may
# become one.
# However the bytes are cut, the outcome is the same: a fault is found at the end of its
# line at the latest.
cdef int head_parse_request(
    head_t* h, const char* bytes, uint32_t size, uint32_t from_
) noexcept nogil

# Parse a response head; `to_head`: it answers a HEAD request; `to_connect` is not known
# to us. 1xx, 204 and 304 have no body; 101 has none either (what follows is not HTTP).
cdef int head_parse_response(
    head_t* h, const char* bytes, uint32_t size, uint32_t from_, bint to_head
) noexcept nogil

# Whether a fault is about how large the head is, not about what it says.
cdef inline bint fault_is_size(FAULT fault) noexcept nogil:
    return (
        fault == FAULT_TOO_LONG or fault == FAULT_TOO_LARGE or fault == FAULT_TOO_MANY
        or fault == FAULT_LONG_TARGET
    )
