"""PROXY protocol headers: strict, sans I/O.

The sender of a header is trusted with the address of a client, so bytes that are not
plainly a header are refused: a guess could make one client pass for another. Of the
extensions (TLVs) only the framing and the checksum are read.
"""

from libc.errno cimport EAGAIN, EPROTO
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, memset

from fastpath.base.addr cimport addr_parse, addr_set_ipv6, addr_t, addr_text
from fastpath.base.linux.socket cimport AF_INET
from fastpath.http1.field cimport CR, LF, SPACE, ZERO

cdef enum:
    TEXT = 6             # bytes of "PROXY "
    LINE_MOST = 107      # of version 1, with its CRLF
    HOST_MOST = 45       # of an address as text
    SIGNATURE = 12
    FRAME_HEAD = 16      # of version 2, with its signature
    FRAME_LOCAL = 0x20   # version and command
    FRAME_PROXY = 0x21
    TLV_HEAD = 3
    TLV_CRC32C = 3
    CRC_BYTES = 4
    CRC_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected


# ---- Version 1, a line.

# An address and the space behind it. Return what follows, or NULL.
cdef const char* host_read(
    const char* p, const char* end, bint v6, addr_t* into
) noexcept nogil:
    cdef const char* stop = <const char*>memchr(p, SPACE, end - p)
    cdef char text[HOST_MOST + 1]

    if stop == NULL or stop - p > HOST_MOST or memchr(p, 0, stop - p) != NULL:
        return NULL
    if (memchr(p, b":", stop - p) != NULL) != v6:
        return NULL
    memcpy(text, p, stop - p)
    text[stop - p] = 0
    return stop + 1 if addr_parse(into, text, 0) == 0 else NULL


# A port, without leading zeros. Return what follows, or NULL.
cdef const char* port_read(
    const char* p, const char* end, uint16_t* into
) noexcept nogil:
    cdef const char* first = p
    cdef uint32_t port = 0

    while p < end and ZERO <= p[0] <= ZERO + 9 and port <= 6553:
        port = port * 10 + (p[0] - ZERO)
        p += 1
    if p == first or port > 65535 or (first[0] == ZERO and p > first + 1):
        return NULL
    into[0] = <uint16_t>port
    return p


# What stands between "PROXY " and the CRLF.
cdef bint words_read(const char* p, const char* end, addr_t* client) noexcept nogil:
    cdef addr_t vip
    cdef uint16_t port
    cdef bint v6

    if end - p >= 7 and memcmp(p, b"UNKNOWN", 7) == 0:
        return p + 7 == end or p[7] == SPACE
    if end - p < 5 or memcmp(p, b"TCP", 3) != 0 or p[4] != SPACE or (
        p[3] != b"4" and p[3] != b"6"
    ):
        return False
    v6 = p[3] == b"6"
    p = host_read(p + 5, end, v6, client)
    if p != NULL:
        p = host_read(p, end, v6, &vip)
    if p != NULL:
        p = port_read(p, end, &client.port)
    if p == NULL or p == end or p[0] != SPACE:
        return False
    return port_read(p + 1, end, &port) == end


cdef int line_read(const char* line, uint32_t size, addr_t* client) noexcept nogil:
    cdef uint32_t at = TEXT

    while at + 1 < size and at + 1 < LINE_MOST:
        if line[at] == CR and line[at + 1] == LF:
            if not words_read(line + TEXT, line + at, client):
                return -EPROTO
            return <int>at + 2
        at += 1
    return -EAGAIN if size < LINE_MOST else -EPROTO


# ---- Version 2, a frame.

# Of the whole frame, with zeros for the checksum itself, which stands at `hole`.
cdef uint32_t crc32c(
    const uint8_t* frame, uint32_t size, uint32_t hole
) noexcept nogil:
    cdef uint32_t crc = 0xffffffff
    cdef uint32_t at
    cdef int _bit

    for at in range(size):
        if at < hole or at >= hole + CRC_BYTES:
            crc ^= frame[at]
        for _bit in range(8):
            crc = (crc >> 1) ^ (CRC_POLYNOMIAL if crc & 1 else 0)
    return ~crc


# From `at` to the end there are whole extensions, and a checksum is right.
cdef bint extensions_good(
    const uint8_t* frame, uint32_t size, uint32_t at
) noexcept nogil:
    cdef const uint8_t* p
    cdef bint summed = False
    cdef uint32_t length

    while at < size:
        p = frame + at
        if size - at < TLV_HEAD:
            return False
        length = (p[1] << 8) | p[2]
        at += TLV_HEAD
        if size - at < length:
            return False
        if p[0] == TLV_CRC32C:
            # A second checksum makes nothing more certain, and costs as much again.
            if summed or length != CRC_BYTES:
                return False
            summed = True
            if crc32c(frame, size, at) != (
                (<uint32_t>p[3] << 24) | (p[4] << 16) | (p[5] << 8) | p[6]
            ):
                return False
        at += length
    return True


# Bytes of the two addresses, by family and transport; -1 = there is no such.
cdef int addresses_size(uint8_t family) noexcept nogil:
    if family == 0x11 or family == 0x12:  # IPv4: 4 + 4 + 2 + 2
        return 12
    if family == 0x21 or family == 0x22:  # IPv6: 16 + 16 + 2 + 2
        return 36
    if family == 0x31 or family == 0x32:  # unix: 108 + 108
        return 216
    return -1


cdef bint frame_good(
    const uint8_t* frame, uint32_t size, addr_t* client
) noexcept nogil:
    cdef const uint8_t* p = frame + FRAME_HEAD
    cdef uint8_t family = frame[13]
    cdef int length = addresses_size(family)

    if family == 0:  # a family that its sender does not know
        return True
    if length < 0 or size - FRAME_HEAD < <uint32_t>length:
        return False
    if family >> 4 == 1:
        client.family = AF_INET
        memcpy(client.ip, p, 4)
        client.port = (p[8] << 8) | p[9]
    elif family >> 4 == 2:
        addr_set_ipv6(client, p)
        client.port = (p[32] << 8) | p[33]
    return extensions_good(frame, size, FRAME_HEAD + length)


cdef int frame_read(
    const uint8_t* frame, uint32_t size, addr_t* client
) noexcept nogil:
    cdef uint32_t whole

    if size < FRAME_HEAD:
        return -EAGAIN
    whole = FRAME_HEAD + ((frame[14] << 8) | frame[15])
    if whole > PROXYHEAD_MOST or (
        frame[12] != FRAME_LOCAL and frame[12] != FRAME_PROXY
    ):
        return -EPROTO
    if size < whole:
        return -EAGAIN
    if frame[12] == FRAME_PROXY and not frame_good(frame, whole, client):
        return -EPROTO
    return <int>whole


cdef int proxyhead_read(
    const char* bytes, uint32_t size, addr_t* client
) noexcept nogil:
    cdef const char* signature = b"\r\n\r\n\0\r\nQUIT\n"

    memset(client, 0, sizeof(addr_t))
    if memcmp(bytes, b"PROXY ", size if size < TEXT else TEXT) == 0:
        return line_read(bytes, size, client) if size > TEXT else -EAGAIN
    if memcmp(bytes, signature, size if size < SIGNATURE else SIGNATURE) == 0:
        return frame_read(<const uint8_t*>bytes, size, client)
    return -EPROTO


def parse(bytes data):
    """Length of the header and (host, port), if it names one; None = it goes on.

    Raises:
        ValueError: no header, whatever comes behind.
    """
    cdef addr_t client
    cdef int size = proxyhead_read(data, <uint32_t>len(data), &client)

    if size == -EAGAIN:
        return None
    if size < 0:
        raise ValueError("no PROXY header")
    return size, (addr_text(&client), client.port) if client.family != 0 else None
