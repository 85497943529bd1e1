# Content codings of bodies. What comes is inflated, what goes is deflated, a piece at
# a time. Neither holds more than its window and one buffer.
# Sources: RFC 9110 8.4.1, RFC 1950 to 1952, zlib.h.
from libc.stdint cimport uint8_t, uint32_t
from fastpath.base.linux.zlib cimport z_stream
from fastpath.http1.compose cimport out_t

cdef enum:
    CODER_BYTES = 16384      # of each of its two buffers

cdef enum CODING:
    CODING_NONE              # identity
    CODING_GZIP
    CODING_DEFLATE           # in its wrapper or, as some servers send it, without
    CODING_OTHER             # none that we understand, or more than one

cdef struct coder_t:
    z_stream  inward
    z_stream  outward
    uint8_t   coding         # CODING
    uint8_t   first_size     # bytes of `first`, until of CODING_DEFLATE it is ...
    uint8_t   known          # ... known whether it has its wrapper
    uint8_t   begun          # a byte has come
    uint8_t   ended          # the stream, or a member of it, is whole
    uint8_t   more           # inflate may have more without another byte
    uint8_t   unflushed      # deflate has bytes that did not go out yet
    uint8_t   finished       # deflate has ended its stream
    char      first[2]
    uint32_t  plain_at       # inflated bytes that are not taken yet
    uint32_t  plain_size
    uint32_t  text_at        # bytes that are not deflated yet
    uint32_t  text_size
    char      plain[CODER_BYTES]
    char      text[CODER_BYTES]

# Which coding a Content-Encoding names.
cdef CODING coding_of(const char* name, uint32_t size) noexcept nogil

# All memory is taken here; NULL = there is none. coder_free accepts NULL.
cdef coder_t* coder_new(CODING coding) noexcept nogil
cdef void coder_free(coder_t* c) noexcept nogil

# Inflate into c.plain, which must be empty. Return how many bytes were used, or -1:
# they are no such stream.
cdef ssize_t coder_inflate(coder_t* c, const char* bytes, size_t size) noexcept nogil

# The body has ended: whether its stream has, too. An empty body has none.
cdef bint coder_is_whole(const coder_t* c) noexcept nogil

# Deflate what is in c.text. False = `o` is full.
cdef bint coder_deflate(coder_t* c, out_t* o) noexcept nogil

# Let all that was deflated go out. False = `o` is full.
cdef bint coder_flush(coder_t* c, out_t* o) noexcept nogil

# End the stream. False = `o` is full.
cdef bint coder_finish(coder_t* c, out_t* o) noexcept nogil
