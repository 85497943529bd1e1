# What the lines of a head say about its message: how long the body is, whether the
# connection lives on, which headers are for the next hop only. Sources: RFC 9110, 7.6;
# RFC 9112, 6 and 9.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.http1.field cimport span_t

cdef enum:
    HEADERS_MOST = 128        # lines of a request's head (and of trailers)
    HEAD_BYTES_MOST = 65536   # of a request's head, its empty line included
    LINE_BYTES_MOST = 32768   # of one line: a bearer token may have 16 KiB
    ANSWER_LINES = 1024       # of a response's head, unless its upstream says more:
    ANSWER_BYTES = 262144     # 120 Warning lines are usual, and kubectl passes 1 MB
    ANSWER_LINES_MOST = 4096  # what an upstream can say
    ANSWER_BYTES_MOST = 1048576
    OPTIONS_MOST = 32         # of all Connection lines: each is looked for in the head

cdef struct header_t:
    span_t   name
    span_t   value           # without the white space around it
    uint8_t  known           # HEADER
    uint8_t  hop             # hop-by-hop: is not forwarded (by its name, or because
                             # Connection names it); upgrades decide for themselves

# Why a head or a chunk is refused; 0 = it is not. See fault_text.
cdef enum FAULT:
    FAULT_NONE
    FAULT_LINE               # request line or status line
    FAULT_VERSION            # not HTTP/1.0 or HTTP/1.1 -> 505 for requests
    FAULT_NAME               # header name is no token, or white space before the colon
    FAULT_VALUE              # NUL, CR or another control character in a value
    FAULT_EOL                # LF without CR
    FAULT_FOLD               # obs-fold
    FAULT_TOO_LONG           # a line behind the first -> 431
    FAULT_TOO_LARGE          # the head -> 431
    FAULT_TOO_MANY           # headers -> 431
    FAULT_LENGTH             # Content-Length: odd, or two of them (even two equal)
    FAULT_CODING             # Transfer-Encoding: one that is not "chunked" -> 501
    FAULT_BOTH               # Content-Length and Transfer-Encoding
    FAULT_HOST               # HTTP/1.1 request without Host, two of them, or an odd one
    FAULT_TARGET             # request target has characters that it must not have
    FAULT_CHUNK              # chunk size line or the line end behind a chunk
    FAULT_TRAILER            # one that may be in a head only
    FAULT_CODINGS            # Transfer-Encoding: empty, a list, "identity", two of
                             # them, or in HTTP/1.0 -> 400
    FAULT_LONG_TARGET        # the first line is too long -> 414
    FAULT_UPGRADE            # request with a body that has an Upgrade, or is CONNECT:
                             # others take the body for the new protocol, and do not
                             # ask for HTTP/1.1 and Connection as we do
    FAULT_OPTIONS            # too many names in Connection -> 431

# How long the body is.
cdef enum BODY:
    BODY_NONE                # also for "Content-Length: 0"
    BODY_SIZED               # length bytes, at least one
    BODY_CHUNKED
    BODY_TO_EOF              # responses only

# What a head may have at most.
cdef struct limits_t:
    uint32_t  bytes          # its empty line included
    uint32_t  line_bytes     # of one line
    uint32_t  lines          # of headers

cdef struct head_t:
    header_t* headers        # borrowed or behind this, see request_head_t
    limits_t  most           # headers has room for most.lines; these two stay from
                             # one parse to the next
    uint32_t  size           # bytes of the head, its empty line included
    uint8_t   fault          # FAULT of the last parse
    uint8_t   body           # BODY
    uint8_t   minor          # 0 or 1
    uint8_t   keep_alive     # what this side says about the connection; 0 with
                             # BODY_TO_EOF, whatever it says
    uint8_t   upgrade        # HTTP/1.1, Connection has the token "upgrade", and there
                             # is an Upgrade
    uint8_t   expects        # "Expect: 100-continue" on HTTP/1.1
    uint8_t   absolute       # request target in absolute form: host is its authority
    uint8_t   is_head        # method is HEAD
    uint8_t   is_connect     # method is CONNECT: target is an authority, path is empty
    uint8_t   doubtful       # 1xx, 204 and 304: what they say of a body, which they do
                             # not have, is refused in any other response
    uint16_t  status         # responses, 100 to 999
    uint16_t  count          # headers
    uint32_t  seen           # 1 << HEADER for each that there is
    uint64_t  length         # of Content-Length; 0 = none
    span_t    method         # requests
    span_t    target         # as sent
    span_t    path           # of target: up to '?', without scheme and authority;
                             # "*" for OPTIONS *; may be empty in absolute form
    span_t    query          # with its '?'; may be empty
    span_t    host           # authority of an absolute target, else value of Host;
                             # "name", "name:port", "[ip]:port" or empty
    span_t    reason         # responses

# A head with room for the lines of a request.
cdef struct request_head_t:
    head_t    head           # first
    header_t  lines[HEADERS_MOST]

# Make it ready to parse into, as often as one likes.
cdef inline head_t* head_ready(request_head_t* h) noexcept nogil:
    h.head.headers = h.lines
    h.head.most.bytes = HEAD_BYTES_MOST
    h.head.most.line_bytes = LINE_BYTES_MOST
    h.head.most.lines = HEADERS_MOST
    return &h.head

# The same for a response: a line of it may be as long as the head. h.headers is there.
cdef inline void head_allow(head_t* h, uint32_t bytes, uint32_t lines) noexcept nogil:
    h.most.bytes = bytes
    h.most.line_bytes = bytes
    h.most.lines = lines

# Note what headers[at] says that its line alone can tell; h.fault if it is refused.
cdef void framing_read_header(head_t* h, const char* bytes, uint16_t at) noexcept nogil

# Note what the Connection lines say, and mark the headers that they name.
cdef void framing_read_connection(head_t* h, const char* bytes) noexcept nogil

# Set h.body of a request.
cdef void framing_read_body(head_t* h) noexcept nogil

# Set h.body of a response, by its status; `to_head`: it answers a HEAD request.
# 1xx, 204 and 304 end with their head, whatever it says (RFC 9112, 6.3). Where it says
# that a body comes, none may pass for the next response: h.keep_alive is 0, and what
# it said is not forwarded; but a 304 may have the length that a 200 would have.
cdef void framing_read_response_body(head_t* h, bint to_head) noexcept nogil

# Status line number for a fault of a request: 400, 414, 431, 501 or 505.
cdef int fault_status(FAULT fault) noexcept nogil

# What is wrong, in a few words; static.
cdef const char* fault_text(FAULT fault) noexcept nogil
