"""Chunked bodies: a machine that is given a byte at a time, and skips what is data."""

from libc.stdint cimport INT64_MAX

from fastpath.http1.field cimport (
    CLASS_TOKEN,
    CR,
    H_OTHER,
    LF,
    ZERO,
    header_is_guarded,
    header_known,
    is_a,
    is_blank,
    is_digit,
    is_text,
    lower,
)
from fastpath.http1.framing cimport (
    FAULT,
    FAULT_CHUNK,
    FAULT_EOL,
    FAULT_FOLD,
    FAULT_NAME,
    FAULT_NONE,
    FAULT_TOO_LARGE,
    FAULT_TOO_LONG,
    FAULT_TOO_MANY,
    FAULT_TRAILER,
    FAULT_VALUE,
    HEADERS_MOST,
    HEAD_BYTES_MOST,
    LINE_BYTES_MOST,
)

from fastpath.http1.framing import head_error

cdef enum:
    SIZE_DIGITS = 16
    LETTER_A = 97


cdef inline int hex_value(char c) noexcept nogil:
    if is_digit(c):
        return c - ZERO
    c = lower(c)
    return c - LETTER_A + 10 if c >= b"a" and c <= b"f" else -1


cdef inline void chunks_go(chunks_t* c, bint fine, CHUNK state) noexcept nogil:
    if fine:
        c.state = state
    else:
        c.fault = FAULT_CHUNK


cdef inline void size_step(chunks_t* c, char byte) noexcept nogil:
    cdef int value = hex_value(byte)

    if value >= 0 and c.digits < SIZE_DIGITS:
        c.left = c.left << 4 | <uint64_t>value
        c.digits += 1
    else:
        element_end(c, byte)


cdef inline void element_end(chunks_t* c, char byte) noexcept nogil:
    # Behind a size, or a name or value of an extension: none of them may be empty, and
    # no white space is around them (RFC 9112, 7.1.1 has it for old senders only).
    if c.digits == 0:
        c.fault = FAULT_CHUNK
    elif byte == b";":
        c.state = CHUNK_EXTENSION
    else:
        chunks_go(c, byte == CR, CHUNK_SIZE_LF)
    c.digits = 0


cdef void extension_step(chunks_t* c, char byte) noexcept nogil:
    if c.state == CHUNK_EXT_QUOTED:
        if byte == b'"':
            c.state = CHUNK_EXT_QUOTED_END
        elif byte == b"\\":
            c.state = CHUNK_EXT_ESCAPED
        else:
            chunks_go(c, is_text(byte), CHUNK_EXT_QUOTED)
    elif c.state == CHUNK_EXT_ESCAPED:
        chunks_go(c, is_text(byte), CHUNK_EXT_QUOTED)
    elif c.state == CHUNK_EXT_QUOTED_END:
        c.digits = 1
        element_end(c, byte)
    elif is_a(byte, CLASS_TOKEN):
        c.digits = 1
    elif c.state == CHUNK_EXT_VALUE and byte == b'"' and c.digits == 0:
        c.state = CHUNK_EXT_QUOTED
    elif c.state == CHUNK_EXTENSION and byte == b"=" and c.digits:
        c.state = CHUNK_EXT_VALUE
        c.digits = 0
    else:
        element_end(c, byte)


cdef void size_line_step(chunks_t* c, char byte) noexcept nogil:
    c.line_bytes += 1
    if c.line_bytes > CHUNK_LINE_MOST:
        c.fault = FAULT_CHUNK
    elif c.state == CHUNK_SIZE:
        size_step(c, byte)
    elif c.state < CHUNK_SIZE_LF:
        extension_step(c, byte)
    else:
        # Of 64 bits, 63 are enough for a size, and they fit into what counts bytes.
        chunks_go(
            c,
            byte == LF and c.left <= <uint64_t>INT64_MAX,
            CHUNK_DATA if c.left else CHUNK_TRAILER,
        )
        c.line_bytes = 0


cdef void name_step(chunks_t* c, char byte) noexcept nogil:
    cdef FAULT fault = FAULT_NAME

    if is_a(byte, CLASS_TOKEN):
        if c.name_size < TRAILER_NAME_BYTES:
            c.name[c.name_size] = byte
            c.name_size += 1
        return
    if byte == b":" and c.name_size:
        c.colon = 1
        if (
            header_known(c.name, c.name_size) == H_OTHER
            and not header_is_guarded(c.name, c.name_size)
        ):
            return
        fault = FAULT_TRAILER
    elif byte == LF:
        fault = FAULT_EOL
    elif c.name_size == 0 and is_blank(byte):
        fault = FAULT_FOLD
    c.fault = fault


cdef void trailer_line_step(chunks_t* c, char byte) noexcept nogil:
    c.line_bytes += 1
    if c.line_bytes > LINE_BYTES_MOST:
        c.fault = FAULT_TOO_LONG
    elif not c.colon:
        name_step(c, byte)
    elif byte == CR:
        c.state = CHUNK_TRAILER_LF
    elif not is_text(byte):
        c.fault = FAULT_EOL if byte == LF else FAULT_VALUE


cdef void trailer_step(chunks_t* c, char byte) noexcept nogil:
    c.trailer_bytes += 1
    if c.trailer_bytes > HEAD_BYTES_MOST:
        c.fault = FAULT_TOO_LARGE
    elif c.state == CHUNK_TRAILER_LINE:
        trailer_line_step(c, byte)
    elif c.state == CHUNK_TRAILER_LF:
        c.state = CHUNK_TRAILER
        c.fault = FAULT_NONE if byte == LF else FAULT_VALUE
    elif c.state == CHUNK_LAST_LF:
        c.state = CHUNK_DONE
        c.fault = FAULT_NONE if byte == LF else FAULT_NAME
    elif byte == CR:
        c.state = CHUNK_LAST_LF
    elif c.trailers == HEADERS_MOST:
        c.fault = FAULT_TOO_MANY
    else:
        c.trailers += 1
        c.line_bytes = 0
        c.name_size = 0
        c.colon = 0
        c.state = CHUNK_TRAILER_LINE
        trailer_line_step(c, byte)


cdef ssize_t chunks_walk(chunks_t* c, const char* bytes, size_t size) noexcept nogil:
    cdef size_t at = 0
    cdef size_t step

    while at < size and c.state != CHUNK_DONE and c.fault == FAULT_NONE:
        step = 1
        if c.state == CHUNK_DATA:
            step = c.left if c.left < size - at else size - at
            c.left -= step
            if c.left == 0:
                c.state = CHUNK_DATA_CR
        elif c.state < CHUNK_DATA:
            size_line_step(c, bytes[at])
        elif c.state == CHUNK_DATA_CR:
            chunks_go(c, bytes[at] == CR, CHUNK_DATA_LF)
        elif c.state == CHUNK_DATA_LF:
            chunks_go(c, bytes[at] == LF, CHUNK_SIZE)
        else:
            trailer_step(c, bytes[at])
        at += step
    return -1 if c.fault else <ssize_t>at


cdef class Chunks:
    """The walker for tests."""

    cdef chunks_t chunks

    def walk(self, bytes data):
        """How many bytes of `data` belong to the body.

        Raises:
            HeadError: the framing is wrong.
        """
        cdef ssize_t walked = chunks_walk(&self.chunks, data, len(data))
        if walked < 0:
            raise head_error(self.chunks.fault)
        return walked

    @property
    def done(self):
        return self.chunks.state == CHUNK_DONE

    @property
    def trailing(self):
        """Whether the last chunk is over: trailers come next, or an empty line."""
        return self.chunks.state >= CHUNK_TRAILER

    @property
    def left(self):
        """Bytes of data that come next; 0 = framing does."""
        return self.chunks.left if self.chunks.state == CHUNK_DATA else 0
