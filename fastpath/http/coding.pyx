"""Content codings by zlib(3), all of whose memory is taken before the first byte."""

from libc.stdlib cimport calloc, free

from fastpath.base.linux.zlib cimport (
    Z_BUF_ERROR,
    Z_DEFAULT_STRATEGY,
    Z_DEFLATED,
    Z_FINISH,
    Z_NO_FLUSH,
    Z_OK,
    Z_STREAM_END,
    Z_SYNC_FLUSH,
    Bytef,
    deflate,
    deflateEnd,
    deflateInit2,
    inflate,
    inflateEnd,
    inflateInit2,
    inflateReset,
    inflateReset2,
    inflateSetDictionary,
)
from fastpath.http1.field cimport same

cdef enum:
    WINDOW_BITS = 15         # the largest: a sender may use all of it
    OUT_BITS = 14            # ours, which with OUT_MEMORY takes 128 KiB
    OUT_MEMORY = 7
    OUT_LEVEL = 1            # as nginx: each further level costs more than it saves
    FLUSH_ROOM = 16          # in less deflate would end a block again and again
    GZIP = 16                # added to the bits: with gzip's header and trailer


cdef CODING coding_of(const char* name, uint32_t size) noexcept nogil:
    # x-gzip is another name of it, RFC 9110 8.4.1.3.
    if size == 0 or size == 8 and same(name, 8, b"identity"):
        return CODING_NONE
    if size == 4 and same(name, 4, b"gzip") or size == 6 and same(name, 6, b"x-gzip"):
        return CODING_GZIP
    if size == 7 and same(name, 7, b"deflate"):
        return CODING_DEFLATE
    return CODING_OTHER


# ---- Open and close.

cdef bint inward_init(coder_t* c) noexcept nogil:
    cdef Bytef zero = 0

    # zlib takes memory for the window with the first bytes only. A dictionary makes it
    # do so now, and is forgotten with the reset, which keeps the window.
    if inflateInit2(&c.inward, -WINDOW_BITS) != Z_OK:
        return False
    if inflateSetDictionary(&c.inward, &zero, 1) == Z_OK and (
        inflateReset2(&c.inward, WINDOW_BITS + GZIP) == Z_OK
    ):
        return True
    inflateEnd(&c.inward)
    return False


cdef coder_t* coder_new(CODING coding) noexcept nogil:
    cdef coder_t* c = <coder_t*>calloc(1, sizeof(coder_t))
    cdef int bits = OUT_BITS + (GZIP if coding == CODING_GZIP else 0)

    if c == NULL:
        return NULL
    c.coding = coding
    c.known = coding == CODING_GZIP
    if not inward_init(c):
        free(c)
        return NULL
    # "deflate" is zlib's format; without the wrapper it is not understood by all.
    if deflateInit2(
        &c.outward, OUT_LEVEL, Z_DEFLATED, bits, OUT_MEMORY, Z_DEFAULT_STRATEGY
    ) != Z_OK:
        inflateEnd(&c.inward)
        free(c)
        return NULL
    return c


cdef void coder_free(coder_t* c) noexcept nogil:
    if c == NULL:
        return
    inflateEnd(&c.inward)
    deflateEnd(&c.outward)
    free(c)


# ---- Inflating.

# Inflate behind what c.plain has. Bytes used, or -1.
cdef ssize_t inflate_some(coder_t* c, const char* bytes, size_t size) noexcept nogil:
    cdef int said

    c.inward.next_in = <const Bytef*>bytes
    c.inward.avail_in = <unsigned int>size
    c.inward.next_out = <Bytef*>c.plain + c.plain_size
    c.inward.avail_out = CODER_BYTES - c.plain_size
    said = inflate(&c.inward, Z_NO_FLUSH)
    c.plain_size = CODER_BYTES - c.inward.avail_out
    c.more = c.inward.avail_out == 0 and said != Z_STREAM_END
    c.ended = said == Z_STREAM_END
    # Z_BUF_ERROR: neither bytes nor room were left, which is no error.
    if said != Z_OK and said != Z_STREAM_END and said != Z_BUF_ERROR:
        return -1
    return size - c.inward.avail_in


# RFC 1950 2.2: the first two bytes, as a number, are a multiple of 31. Without wrapper
# they would begin a block that is stored, with bits set that are zero in practice.
cdef bint is_wrapped(const char* first) noexcept nogil:
    cdef int one = <unsigned char>first[0]

    return one & 15 == 8 and one >> 4 <= 7 and (
        (one << 8 | <unsigned char>first[1]) % 31 == 0
    )


# Find out by its first two bytes which of its two formats "deflate" is.
cdef ssize_t inflate_first(coder_t* c, const char* bytes, size_t size) noexcept nogil:
    cdef size_t used = 0

    while used < size and c.first_size < 2:
        c.first[c.first_size] = bytes[used]
        c.first_size += 1
        used += 1
    if c.first_size == 2:
        c.known = 1
        inflateReset2(&c.inward, WINDOW_BITS if is_wrapped(c.first) else -WINDOW_BITS)
        if inflate_some(c, c.first, 2) != 2:
            return -1
    return used


cdef ssize_t coder_inflate(coder_t* c, const char* bytes, size_t size) noexcept nogil:
    c.plain_at = 0
    c.plain_size = 0
    if size > 0:
        c.begun = 1
        if not c.known:
            return inflate_first(c, bytes, size)
        if c.ended:
            # RFC 1952 2.2: a file may have several members. What follows is one, or
            # inflate says that it is not.
            if c.coding != CODING_GZIP:
                return -1
            inflateReset(&c.inward)
            c.ended = 0
    return inflate_some(c, bytes, size) if not c.ended else 0


cdef bint coder_is_whole(const coder_t* c) noexcept nogil:
    return c.ended or not c.begun


# ---- Deflating.

# Whether all went out: zlib has more as long as it fills its room.
cdef bint deflate_some(coder_t* c, out_t* o, int flush) noexcept nogil:
    c.outward.next_in = <const Bytef*>c.text + c.text_at
    c.outward.avail_in = c.text_size - c.text_at
    c.outward.next_out = <Bytef*>o.bytes + o.size
    c.outward.avail_out = <unsigned int>(o.room - o.size)
    c.finished = deflate(&c.outward, flush) == Z_STREAM_END
    o.size = o.room - c.outward.avail_out
    c.text_at = c.text_size - c.outward.avail_in
    return c.outward.avail_out > 0


cdef bint coder_deflate(coder_t* c, out_t* o) noexcept nogil:
    if c.text_at == c.text_size:
        return True
    if o.size == o.room:
        return False
    c.unflushed = 1
    deflate_some(c, o, Z_NO_FLUSH)
    return c.text_at == c.text_size


cdef bint coder_flush(coder_t* c, out_t* o) noexcept nogil:
    if c.unflushed:
        if o.room - o.size < FLUSH_ROOM or not deflate_some(c, o, Z_SYNC_FLUSH):
            return False
        c.unflushed = 0
    return True


cdef bint coder_finish(coder_t* c, out_t* o) noexcept nogil:
    if not c.finished and o.size < o.room:
        deflate_some(c, o, Z_FINISH)
    return c.finished
