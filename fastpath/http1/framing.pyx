"""What headers mean for the message as a whole. What two readers could understand in
two ways is refused: requests are smuggled in what one of the readers overlooks."""

from libc.stdint cimport INT64_MAX
from libc.string cimport memchr, memset

from fastpath.http1.field cimport (
    CLASS_TOKEN,
    CR,
    HEADER,
    H_CONNECTION,
    H_CONTENT_LENGTH,
    H_EXPECT,
    H_HOST,
    H_KEEP_ALIVE,
    H_PROXY_AUTHENTICATE,
    H_PROXY_AUTHORIZATION,
    H_PROXY_CONNECTION,
    H_TE,
    H_TRAILER,
    H_TRANSFER_ENCODING,
    H_UPGRADE,
    SPACE,
    ZERO,
    header_is_guarded,
    header_known,
    is_a,
    is_blank,
    is_digit,
    lower,
    span_is,
)
from fastpath.http1.target cimport between, host_is_fine

cdef extern from * nogil:
    """
    static const char *const fastpath_faults[] = {
        "nothing is wrong",
        "malformed first line",
        "unsupported HTTP version",
        "invalid header name",
        "invalid header value",
        "line feed without carriage return",
        "folded header line",
        "header line of more than 32768 bytes",
        "header lines of more than 65536 bytes",
        "more than 128 header lines",
        "invalid Content-Length",
        "unsupported transfer encoding",
        "Content-Length and Transfer-Encoding",
        "missing or invalid Host header",
        "invalid request target",
        "malformed chunk",
        "trailer that belongs into the header",
        "invalid Transfer-Encoding",
        "request line of more than 32768 bytes",
        "upgrade with a body",
        "more than 32 names in Connection",
    };
    """
    const char* fault_texts "fastpath_faults"[]

# Names of FAULT.
FAULT_NAMES = (
    "none", "line", "version", "name", "value", "eol", "fold", "too_long", "too_large",
    "too_many", "length", "coding", "both", "host", "target", "chunk", "trailer",
    "codings", "long_target", "upgrade", "options",
)

cdef enum:
    LENGTH_DIGITS = 19       # 10^19 - 1 fits into 64 bits, and is checked for 63
    FRAMING = 1 << H_CONTENT_LENGTH | 1 << H_TRANSFER_ENCODING
    HOP_BY_HOP = (
        1 << H_CONNECTION | 1 << H_TRANSFER_ENCODING | 1 << H_KEEP_ALIVE
        | 1 << H_PROXY_CONNECTION | 1 << H_PROXY_AUTHENTICATE
        | 1 << H_PROXY_AUTHORIZATION | 1 << H_TRAILER | 1 << H_UPGRADE
    )

# What the Connection lines say.
cdef struct said_t:
    span_t option            # the last one
    uint16_t count
    uint8_t close
    uint8_t keep_alive
    uint8_t upgrade


cdef bint ends_plainly(const char* bytes, span_t value) noexcept nogil:
    # Not with a tab, which llhttp takes for a part of these two.
    cdef const char* p = bytes + value.at + value.size

    while p[0] == SPACE:
        p += 1
    return p[0] == CR


cdef void length_read(head_t* h, const char* bytes, span_t value) noexcept nogil:
    cdef const char* digit = bytes + value.at
    cdef uint32_t i

    if (
        h.seen & 1 << H_CONTENT_LENGTH or value.size - 1 >= LENGTH_DIGITS
        or not ends_plainly(bytes, value)
    ):
        h.fault = FAULT_LENGTH
        return
    for i in range(value.size):
        if not is_digit(digit[i]):
            h.fault = FAULT_LENGTH
            return
        h.length = h.length * 10 + <uint64_t>(digit[i] - ZERO)
    if h.length > <uint64_t>INT64_MAX:
        h.fault = FAULT_LENGTH


cdef void coding_read(head_t* h, const char* bytes, span_t value) noexcept nogil:
    # RFC 9112, 6.1 and 6.3: in HTTP/1.0 it is a sign of smuggling, and "identity" is no
    # coding any more. We decode nothing, so "gzip, chunked" is refused with the rest.
    cdef const char* p = bytes + value.at
    cdef uint32_t i = 0

    while i < value.size and is_a(p[i], CLASS_TOKEN):
        i += 1
    if h.minor == 0 or h.seen & 1 << H_TRANSFER_ENCODING:
        h.fault = FAULT_CODINGS
    elif i == 0 or i < value.size or not ends_plainly(bytes, value):
        h.fault = FAULT_CODINGS
    elif span_is(bytes, value, b"identity"):
        h.fault = FAULT_CODINGS
    elif not span_is(bytes, value, b"chunked"):
        h.fault = FAULT_CODING


cdef void host_read(head_t* h, const char* bytes, span_t value) noexcept nogil:
    cdef const char* p = bytes + value.at

    # An empty one is legal (RFC 9112, 3.2), if the target has no authority of its own.
    if h.seen & 1 << H_HOST or (value.size and not host_is_fine(p, p + value.size)):
        h.fault = FAULT_HOST
    elif not h.absolute:
        h.host = value


# Whether a response of this status ends with its head.
cdef inline bint is_bodiless(const head_t* h) noexcept nogil:
    return 0 < h.status < 200 or h.status == 204 or h.status == 304


# Content-Length or Transfer-Encoding.
cdef void body_line_read(
    head_t* h, const char* bytes, const header_t* header
) noexcept nogil:
    if h.seen & FRAMING & ~(<uint32_t>1 << header.known):
        h.fault = FAULT_BOTH
    elif header.known == H_CONTENT_LENGTH:
        length_read(h, bytes, header.value)
    else:
        coding_read(h, bytes, header.value)
    if h.fault != FAULT_NONE and is_bodiless(h):
        h.fault = FAULT_NONE
        h.doubtful = 1


cdef void framing_read_header(
    head_t* h, const char* bytes, uint16_t at
) noexcept nogil:
    cdef header_t* header = &h.headers[at]
    cdef HEADER known = <HEADER>header.known

    header.hop = HOP_BY_HOP >> known & 1
    if FRAMING >> known & 1:
        body_line_read(h, bytes, header)
    elif known == H_HOST and h.status == 0:
        host_read(h, bytes, header.value)
    elif known == H_EXPECT and h.minor and h.status == 0:
        h.expects |= span_is(bytes, header.value, b"100-continue")
    elif known == H_TE:
        # As kubectl's proxy: of all that it may say, this is about what we forward.
        header.hop = not span_is(bytes, header.value, b"trailers")
    h.seen |= <uint32_t>1 << known


cdef void hop_mark(head_t* h, const char* bytes, span_t name) noexcept nogil:
    cdef const char* p = bytes + name.at
    cdef header_t* header
    cdef uint16_t i

    # Connection may not take away a header that policies decide by (CVE-2022-32148 and
    # others: "Connection: X-Forwarded-For" hid the client's address), nor TE, which
    # Connection must name wherever it is sent, and which was judged by its value.
    if header_is_guarded(p, name.size) or header_known(p, name.size) == H_TE:
        return
    for i in range(h.count):
        header = &h.headers[i]
        if header.name.size != name.size:
            continue
        if equal(p, bytes + header.name.at, name.size):
            header.hop = 1


cdef bint equal(const char* a, const char* b, uint32_t size) noexcept nogil:
    cdef uint32_t i

    for i in range(size):
        if lower(a[i]) != lower(b[i]):
            return False
    return True


cdef void option_read(head_t* h, const char* bytes, said_t* said) noexcept nogil:
    if span_is(bytes, said.option, b"close"):
        said.close = 1
    elif span_is(bytes, said.option, b"keep-alive"):
        said.keep_alive = 1
    elif span_is(bytes, said.option, b"upgrade"):
        said.upgrade = 1
    else:
        hop_mark(h, bytes, said.option)


cdef void options_read(
    head_t* h, const char* bytes, span_t value, said_t* said
) noexcept nogil:
    """One Connection line: names between commas. What is no name names no header."""
    cdef const char* p = bytes + value.at
    cdef const char* end = p + value.size
    cdef const char* comma
    cdef const char* stop

    while p < end and h.fault == FAULT_NONE:
        comma = <const char*>memchr(p, b",", end - p)
        stop = comma if comma != NULL else end
        while p < stop and is_blank(p[0]):
            p += 1
        said.option = between(bytes, p, stop)
        while said.option.size and is_blank(p[said.option.size - 1]):
            said.option.size -= 1
        if said.option.size:
            said.count += 1
            option_read(h, bytes, said)
        if said.count > OPTIONS_MOST:
            h.fault = FAULT_OPTIONS
        p = stop + 1


cdef void framing_read_connection(head_t* h, const char* bytes) noexcept nogil:
    cdef said_t said
    cdef uint16_t i

    memset(&said, 0, sizeof(said_t))
    if h.seen & 1 << H_CONNECTION:
        for i in range(h.count):
            if h.headers[i].known == H_CONNECTION:
                options_read(h, bytes, h.headers[i].value, &said)
    h.keep_alive = not said.close and (h.minor or said.keep_alive)
    # RFC 9110, 7.8: not in HTTP/1.0.
    h.upgrade = said.upgrade and h.minor and h.seen >> H_UPGRADE & 1


cdef void framing_read_body(head_t* h) noexcept nogil:
    if h.seen & 1 << H_TRANSFER_ENCODING:
        h.body = BODY_CHUNKED
    elif h.length:
        h.body = BODY_SIZED


# The framing headers are for nobody behind us.
cdef void body_lines_drop(head_t* h) noexcept nogil:
    cdef uint32_t i

    for i in range(h.count):
        if FRAMING >> h.headers[i].known & 1:
            h.headers[i].hop = 1


cdef void bodiless_read(head_t* h) noexcept nogil:
    # A server that announces a body may send it. And some readers would wait for it:
    # llhttp does behind some 1xx, so that the announcement goes no further.
    cdef bint announced = h.body != BODY_NONE and h.status != 304

    if h.seen & FRAMING and (h.doubtful or h.status != 304):
        body_lines_drop(h)
    if h.doubtful or announced:
        h.keep_alive = 0
    h.body = BODY_NONE


cdef void framing_read_response_body(head_t* h, bint to_head) noexcept nogil:
    framing_read_body(h)
    if is_bodiless(h):
        bodiless_read(h)
    elif to_head:
        h.body = BODY_NONE
    elif h.body == BODY_NONE and not h.seen & 1 << H_CONTENT_LENGTH:
        h.body = BODY_TO_EOF
        h.keep_alive = 0


cdef int fault_status(FAULT fault) noexcept nogil:
    if fault == FAULT_VERSION:
        return 505
    if fault == FAULT_CODING:
        return 501
    if fault == FAULT_LONG_TARGET:
        return 414
    if (
        fault == FAULT_TOO_LONG or fault == FAULT_TOO_LARGE or fault == FAULT_TOO_MANY
        or fault == FAULT_OPTIONS
    ):
        return 431
    return 400


cdef const char* fault_text(FAULT fault) noexcept nogil:
    return fault_texts[<int>fault]


class HeadError(ValueError):
    """A head or a chunk that is refused: `fault` names why, `status` answers it."""

    def __init__(self, fault, status, text):
        super().__init__(text)
        self.fault = fault
        self.status = status


def head_error(int fault):
    """The exception for a fault of head.pxd."""
    text = fault_text(<FAULT>fault).decode()
    return HeadError(FAULT_NAMES[fault], fault_status(<FAULT>fault), text)
