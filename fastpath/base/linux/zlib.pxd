# zlib(3), as far as we use it.
cdef extern from "<zlib.h>" nogil:
    ctypedef unsigned char Bytef

    ctypedef struct z_stream:
        const Bytef*  next_in
        unsigned int  avail_in
        Bytef*        next_out
        unsigned int  avail_out

    int Z_OK, Z_STREAM_END, Z_BUF_ERROR, Z_MEM_ERROR
    int Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH
    int Z_DEFLATED, Z_DEFAULT_STRATEGY

    int inflateInit2(z_stream* z, int window_bits)
    int inflateReset(z_stream* z)
    int inflateReset2(z_stream* z, int window_bits)
    int inflateSetDictionary(z_stream* z, const Bytef* bytes, unsigned int size)
    int inflate(z_stream* z, int flush)
    int inflateEnd(z_stream* z)
    int deflateInit2(
        z_stream* z, int level, int method, int window_bits, int mem_level,
        int strategy,
    )
    int deflate(z_stream* z, int flush)
    int deflateEnd(z_stream* z)
