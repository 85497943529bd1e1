"""Keys of verdicts. Sans I/O; nothing is allocated."""

from libc.string cimport memchr, memcpy

from fastpath.base.linux.bytes cimport le64toh, memmem
from fastpath.base.linux.clock cimport clock_us
from fastpath.base.linux.random cimport getrandom
from fastpath.http1.field cimport same
from fastpath.http1.framing cimport header_t
from fastpath.ring.rendezvous cimport uint128_t
from fastpath.table.table cimport (
    PART_BODY,
    PART_CERTIFICATE,
    PART_HOST,
    PART_METHOD,
    PART_PATH,
    PART_QUERY,
    PART_SEGMENT,
    PART_SOURCE,
    PART_UPGRADE,
    PART_WORD,
)
from fastpath.tls.peer cimport FINGERPRINT_BYTES, peer_fingerprint

cdef enum:
    DIGEST_BYTES = 16


cdef void secret_init(secret_t* s) noexcept nogil:
    s.hash = clock_us()
    s.digest[0] = s.hash
    s.digest[1] = s.hash
    # The clock first: where a sandbox forbids getrandom(2), that is the seed. It can be
    # guessed, but keys still differ from start to start.
    getrandom(s, sizeof(secret_t), 0)


# ---- Writing.

cdef struct writer_t:
    char*    into
    uint32_t size
    bint     full


# A part with its length in front, so that no two keys run into each other.
cdef inline void put_part(writer_t* w, const char* bytes, uint32_t size) noexcept nogil:
    cdef char* to = w.into + w.size

    # The size alone first: a sum with a huge one would wrap around.
    if size > KEY_BYTES_MOST or w.size + size + sizeof(size) > KEY_BYTES_MOST:
        w.full = True
        return
    memcpy(to, &size, sizeof(size))
    memcpy(to + sizeof(size), bytes, size)
    w.size += size + <uint32_t>sizeof(size)


# All values of a header, each a part, and a mark behind the last one.
cdef void put_header(writer_t* w, const asked_t* a, const part_t* part) noexcept nogil:
    cdef const header_t* h
    cdef uint32_t i
    cdef uint32_t none = 0xffffffff  # a length that no value has

    for i in range(a.head.count):
        h = &a.head.headers[i]
        if h.name.size == part.size and same(
            a.bytes + h.name.at, part.size, part.name
        ):
            put_part(w, a.bytes + h.value.at, h.value.size)
    # A header may come any number of times: without the mark, the next part of the key
    # could pass for one more value.
    if w.size + sizeof(none) > KEY_BYTES_MOST:
        w.full = True
        return
    memcpy(w.into + w.size, &none, sizeof(none))
    w.size += <uint32_t>sizeof(none)


cdef void put_span(writer_t* w, const asked_t* a, span_t s) noexcept nogil:
    put_part(w, a.bytes + s.at, s.size)


cdef bint path_is_plain(const char* bytes, span_t path) noexcept nogil:
    cdef const char* text = bytes + path.at
    cdef uint32_t i

    if path.size == 0 or text[0] != b"/":
        return False
    # An upstream may decode %2e%2e, or read "//" and ".." in a way of its own, and so
    # leave the segments that a key names: such a path counts as a whole.
    for i in range(1, path.size):
        if text[i] == b"%":
            return False
        if text[i - 1] == b"/" and (text[i] == b"/" or text[i] == b"."):
            return False
    return True


cdef span_t path_up_to(const char* bytes, span_t path, uint8_t n) noexcept nogil:
    cdef const char* start = bytes + path.at
    cdef const char* end = start + path.size
    cdef const char* at = start + 1

    while at < end and n > 0:
        at = <const char*>memchr(at, b"/", end - at)
        if at == NULL:
            return path
        at += 1
        n -= 1
    if n == 0:
        path.size = at - start
    return path


# Of a path that may be read in another way: all of it. Where the n-th segment is does
# not matter then: a peer that decodes a later one might climb.
cdef inline void put_path(writer_t* w, const asked_t* a, uint8_t depth) noexcept nogil:
    if depth == 0 or not a.is_plain:
        put_span(w, a, a.head.path)
    else:
        put_span(w, a, path_up_to(a.bytes, a.head.path, depth))


cdef void put_word(writer_t* w, const asked_t* a, const part_t* part) noexcept nogil:
    cdef span_t path = a.head.path
    cdef char has

    if not a.is_plain:
        put_span(w, a, path)
        return
    has = memmem(a.bytes + path.at, path.size, part.name, part.size) != NULL
    put_part(w, &has, 1)


cdef void put_fingerprint(writer_t* w, const asked_t* a) noexcept nogil:
    cdef char fingerprint[FINGERPRINT_BYTES]
    cdef int size = peer_fingerprint(a.ssl, fingerprint)

    if size < 0:
        w.full = True  # ask Python, rather than share with clients without one
    else:
        put_part(w, fingerprint, size)


cdef void put_request_part(
    writer_t* w, const asked_t* a, const part_t* part, uint8_t depth
) noexcept nogil:
    cdef char has

    if part.kind == PART_METHOD:
        put_span(w, a, a.head.method)
    elif part.kind == PART_HOST:
        put_span(w, a, a.head.host)
    elif part.kind == PART_PATH:
        put_path(w, a, depth)
    elif part.kind == PART_SEGMENT:
        put_path(w, a, 1)
    elif part.kind == PART_WORD:
        put_word(w, a, part)
    elif part.kind == PART_QUERY:
        put_span(w, a, a.head.query)
    elif part.kind == PART_SOURCE:
        put_part(w, <const char*>a.client.ip, sizeof(a.client.ip))
    elif part.kind == PART_BODY:
        has = a.head.body != 0
        put_part(w, &has, 1)
    elif part.kind == PART_CERTIFICATE:
        put_fingerprint(w, a)
    elif part.kind == PART_UPGRADE and not a.head.upgrade:
        # An Upgrade without "Connection: upgrade" asks for nothing (RFC 9110 7.8).
        put_part(w, b"", 0)
    else:  # PART_HEADER, and PART_UPGRADE named like its header
        put_header(w, a, part)


cdef uint32_t key_write(
    char* into, const asked_t* a, mask_t mask, const secret_t* s
) noexcept nogil:
    cdef writer_t w
    cdef uint32_t i

    # In order: vip and mask, so that keys of different kinds are never equal; the parts
    # of the mask; instead of a long key, its digest, which covers vip and mask as well.
    memcpy(into, &a.vip, sizeof(a.vip))
    memcpy(into + sizeof(a.vip), &mask, sizeof(mask))
    w.into = into
    w.size = sizeof(a.vip) + sizeof(mask)
    w.full = False
    for i in range(a.part_count):
        if mask >> i & 1:  # in the vip's order, in whatever order the answer named them
            put_request_part(&w, a, &a.parts[i], mask >> DEPTH_SHIFT)
    if w.full:
        return 0
    if w.size <= KEY_KEPT_MOST:
        return w.size
    key_digest(into, w.size, s)
    return DIGEST_BYTES | KEY_DIGEST


# ---- Hashing.

# Eight bytes at a time: multiply, and fold the halves of the product, so that a bit
# anywhere in a word reaches the low ones that choose the set. Seeded: no set can be
# aimed at. Source: wyhash, by Wang Yi (public domain).
cdef uint64_t key_hash(
    const char* key, uint32_t size, const secret_t* s
) noexcept nogil:
    cdef uint64_t hash
    cdef uint128_t product
    cdef uint64_t word
    cdef uint32_t at = 0

    size = key_bytes(size)
    hash = s.hash ^ size  # the last word is padded with zeros: only the size tells
    while at < size:
        word = 0
        memcpy(&word, key + at, 8 if size - at >= 8 else size - at)
        # 2**64 / golden ratio, odd: about half of its bits are set, without a pattern.
        product = <uint128_t>(hash ^ word) * <uint64_t>0x9E3779B97F4A7C15
        hash = <uint64_t>(product >> 64) ^ <uint64_t>product
        at += 8
    return hash


cdef inline uint64_t turn(uint64_t x, int bits) noexcept nogil:
    return x << bits | x >> (64 - bits)


cdef inline void sip_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = turn(v[1], 13) ^ v[0]
    v[3] = turn(v[3], 16) ^ v[2]
    v[0] = turn(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = turn(v[1], 17) ^ v[2]
    v[3] = turn(v[3], 21) ^ v[0]
    v[2] = turn(v[2], 32)


# Put SipHash-2-4-128 of the bytes in front of them. (Aumasson and Bernstein, 2012.)
#
# Two requests that share a digest would share a verdict. The secret is drawn anew for
# each worker and never leaves it; without it a client can only try: of 2^40 requests,
# the odds that one meets one of 2^20 kept digests are 2^-68.
cdef void key_digest(char* bytes, uint32_t size, const secret_t* s) noexcept nogil:
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef uint32_t at = 0
    cdef int _i

    # In order: the paper's constants, with 0xee for the 128-bit variant; each word with
    # two rounds; four rounds for the first half of the digest, and, after 0xdd, four
    # more for the second. The bytes are all read before the digest overwrites them.
    v[0] = s.digest[0] ^ <uint64_t>0x736f6d6570736575
    v[1] = s.digest[1] ^ <uint64_t>0x646f72616e646f6d ^ 0xee
    v[2] = s.digest[0] ^ <uint64_t>0x6c7967656e657261
    v[3] = s.digest[1] ^ <uint64_t>0x7465646279746573
    while at <= size:  # a last word, perhaps empty, ends with the size modulo 256
        word = 0
        memcpy(&word, bytes + at, 8 if size - at >= 8 else size - at)
        word = le64toh(word)
        if size - at < 8:
            word |= <uint64_t>size << 56
        v[3] ^= word
        sip_round(v)
        sip_round(v)
        v[0] ^= word
        at += 8
    v[2] ^= 0xee
    for _i in range(4):
        sip_round(v)
    word = v[0] ^ v[1] ^ v[2] ^ v[3]
    memcpy(bytes, &word, 8)
    v[1] ^= 0xdd
    for _i in range(4):
        sip_round(v)
    word = v[0] ^ v[1] ^ v[2] ^ v[3]
    memcpy(bytes + 8, &word, 8)


# ---- The door for tests.

def path_to(bytes path, uint8_t n):
    """What a key with ":path/n" has of `path`."""
    cdef span_t whole

    whole.at = 0
    whole.size = len(path)
    if not path_is_plain(path, whole):
        return path
    return path[:path_up_to(path, whole, n).size]


def digest(bytes data, bytes secret):
    """The digest of a key of up to KEY_BYTES_MOST bytes; `secret` has 16."""
    cdef char into[KEY_BYTES_MOST]
    cdef secret_t s

    if len(data) > KEY_BYTES_MOST or len(secret) != DIGEST_BYTES:
        raise ValueError("too long a key, or no secret")
    memcpy(into, <const char*>data, len(data))
    memcpy(s.digest, <const char*>secret, DIGEST_BYTES)
    key_digest(into, len(data), &s)
    return into[:DIGEST_BYTES]
