# Chunked bodies, sans I/O. The bytes are forwarded as they came: only their framing is
# read, and it is strict: never more lenient than llhttp. Source: RFC 9112, 7.1.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    CHUNK_LINE_MOST = 4096    # bytes of a size line: its extensions mean nothing to us
    TRAILER_NAME_BYTES = 24   # longer than any name that trailers must not have

# SIZE -> (EXTENSION -> EXT_VALUE or EXT_QUOTED -> EXT_QUOTED_END)* -> SIZE_LF
#   -> DATA -> DATA_CR -> DATA_LF -> SIZE ...; behind the last chunk, of no bytes:
#   -> (TRAILER -> TRAILER_LINE -> TRAILER_LF)* -> TRAILER -> LAST_LF -> DONE
cdef enum CHUNK:
    CHUNK_SIZE               # in a size line
    CHUNK_EXTENSION          # in the name of an extension
    CHUNK_EXT_VALUE
    CHUNK_EXT_QUOTED
    CHUNK_EXT_ESCAPED        # behind a backslash in there
    CHUNK_EXT_QUOTED_END
    CHUNK_SIZE_LF
    CHUNK_DATA               # `left` bytes of data
    CHUNK_DATA_CR
    CHUNK_DATA_LF
    CHUNK_TRAILER            # at the start of a trailer line, or of the last line
    CHUNK_TRAILER_LINE
    CHUNK_TRAILER_LF
    CHUNK_LAST_LF
    CHUNK_DONE

# All zero to begin with.
cdef struct chunks_t:
    uint64_t left            # of the chunk's data
    uint32_t trailer_bytes   # so far; at most HEAD_BYTES_MOST
    uint16_t line_bytes      # of the size line or the trailer line so far
    uint16_t trailers        # lines so far; at most HEADERS_MOST
    uint8_t  state           # CHUNK
    uint8_t  digits          # of the size; in an extension: bytes of the name or value
    uint8_t  colon           # the trailer line has had its colon
    uint8_t  fault           # FAULT of head.pxd
    uint8_t  name_size       # of the trailer; at most TRAILER_NAME_BYTES
    char     name[TRAILER_NAME_BYTES]   # its beginning

# Walk over up to `size` body bytes. Return how many of them belong to this body: fewer
# than `size` only when the body has ended (c.state == CHUNK_DONE). -1 = c.fault, and it
# stays so. Trailer lines are checked as headers are; none may be one that we know
# (HEADER), or that header_is_guarded says is for heads only.
cdef ssize_t chunks_walk(chunks_t* c, const char* bytes, size_t size) noexcept nogil
