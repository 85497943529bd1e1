# HTTP/1.1 heads, sans I/O: a strict parser. It points into the caller's buffer, copies
# and allocates nothing, and is never more lenient than llhttp in strict mode.
# Sources: RFC 9110, RFC 9112.
from libc.stdint cimport uint16_t, uint32_t

# Everything about messages can be had from here.
from fastpath.chunks cimport (
    CHUNK,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_DONE,
    CHUNK_EXTENSION,
    CHUNK_LAST_LF,
    CHUNK_SIZE,
    CHUNK_SIZE_LF,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF,
    CHUNK_TRAILER_LINE,
    chunks_t,
    chunks_walk,
)
from fastpath.field cimport (
    HEADER,
    H_AUTHORIZATION,
    H_CONNECTION,
    H_CONTENT_LENGTH,
    H_COOKIE,
    H_EXPECT,
    H_HOST,
    H_KEEP_ALIVE,
    H_OTHER,
    H_PROXY_AUTHENTICATE,
    H_PROXY_AUTHORIZATION,
    H_PROXY_CONNECTION,
    H_TE,
    H_TRAILER,
    H_TRANSFER_ENCODING,
    H_UPGRADE,
    H_X_FORWARDED_FOR,
    header_is_guarded,
    header_known,
    span_is,
    span_t,
)
from fastpath.framing cimport (
    BODY,
    BODY_CHUNKED,
    BODY_NONE,
    BODY_SIZED,
    BODY_TO_EOF,
    FAULT,
    FAULT_BOTH,
    FAULT_CHUNK,
    FAULT_CODING,
    FAULT_CODINGS,
    FAULT_EOL,
    FAULT_FOLD,
    FAULT_HOST,
    FAULT_LENGTH,
    FAULT_LINE,
    FAULT_LONG_TARGET,
    FAULT_NAME,
    FAULT_NONE,
    FAULT_TARGET,
    FAULT_TOO_LARGE,
    FAULT_TOO_LONG,
    FAULT_TOO_MANY,
    FAULT_TRAILER,
    FAULT_UPGRADE,
    FAULT_VALUE,
    FAULT_VERSION,
    HEADERS_MOST,
    HEAD_BYTES_MOST,
    LINE_BYTES_MOST,
    OPTIONS_MOST,
    fault_status,
    fault_text,
    head_t,
    header_t,
)

# Parse a request head from `size` bytes. `from_` is how many of them an earlier call
# has looked at already (0 at first): the search for the end goes on there.
# Return 1 when the head is whole, 0 when more bytes are needed (and none of those seen
# is wrong, as far as can be told), -1 when it is refused: see h.fault.
# Empty lines before a request line are not skipped by us: they are refused.
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
