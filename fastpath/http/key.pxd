# Requests as keys: the parts that a verdict hangs on, as one stretch of bytes.
#
# A request is the same to a verdict as another one if their keys are equal. A key says
# first which vip and which parts it is of, so that keys of different kinds are never
# equal; each part has its length in front, so that no two of them run into each other.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.http1.field cimport span_t
from fastpath.http1.framing cimport head_t
from fastpath.table.table cimport part_t
from fastpath.tls.openssl cimport SSL

cdef enum:
    KEY_BYTES_MOST = 8192    # a request with a longer key is asked about each time
    KEY_KEPT_MOST = 1024     # of a longer one its digest is kept
    KEY_DIGEST = 0x80000000  # in a size: the bytes are a digest
    DEPTH_SHIFT = 24         # PARTS_MOST

# Which parts make a key. Bit n: the n-th part of the vip's key (PARTS_MOST of them).
# The four bits above say up to which segment the path counts; 0 = all of it.
ctypedef uint32_t mask_t

# A request as keys see it. Everything is borrowed.
cdef struct asked_t:
    const part_t*  parts     # of the vip
    uint32_t       part_count
    uint32_t       vip       # slot
    const head_t*  head
    const char*    bytes     # that the head was parsed from
    const addr_t*  client
    SSL*           ssl       # with the client; NULL = plain
    bint           is_plain  # its path, see path_is_plain

# Secrets of one worker, so that no client can aim at a set of a memory, or at a digest.
cdef struct secret_t:
    uint64_t  hash
    uint64_t  digest[2]

# Draw them.
cdef void secret_init(secret_t* s) noexcept nogil

# Write the key of `a` into KEY_BYTES_MOST bytes. Return its size; 0 = too long. With
# KEY_DIGEST in it, the bytes are a digest of the key, and the rest is their number.
cdef uint32_t key_write(
    char* into, const asked_t* a, mask_t mask, const secret_t* s
) noexcept nogil

# Bytes that a key of this size has.
cdef inline uint32_t key_bytes(uint32_t size) noexcept nogil:
    return size & ~<uint32_t>KEY_DIGEST

# 64 bits of the bytes, for choosing a set.
cdef uint64_t key_hash(
    const char* key, uint32_t size, const secret_t* s
) noexcept nogil

# Whether nobody reads a path in another way than it stands there: it begins with a
# slash, and has no escapes, no empty segments and none that begins with a dot.
cdef bint path_is_plain(const char* bytes, span_t path) noexcept nogil

# Of a plain path: the path up to and with its `n`-th segment and the slash behind that,
# "/api/" of "/api/v1/pods" and 1; all of it, if it has no such slash.
cdef span_t path_up_to(const char* bytes, span_t path, uint8_t n) noexcept nogil
