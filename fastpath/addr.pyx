"""Internet addresses: parse, format, convert. Knows no socket of its own."""

from libc.errno cimport EINVAL
from libc.string cimport memcmp, memcpy, memset

from fastpath.linux.socket cimport (
    AF_INET,
    AF_INET6,
    htons,
    inet_ntop,
    inet_pton,
    ntohs,
    sockaddr_in,
    sockaddr_in6,
)


cdef int addr_parse(addr_t* a, const char* text, uint16_t port) noexcept nogil:
    memset(a, 0, sizeof(addr_t))
    a.port = port
    if inet_pton(AF_INET, text, a.ip) == 1:
        a.family = AF_INET
        return 0
    if inet_pton(AF_INET6, text, a.ip) == 1:
        a.family = AF_INET6
        return 0
    return -EINVAL


cdef socklen_t addr_to_sockaddr(
    const addr_t* a, sockaddr_storage* into
) noexcept nogil:
    cdef sockaddr_in* v4 = <sockaddr_in*>into
    cdef sockaddr_in6* v6 = <sockaddr_in6*>into

    if a.family == AF_INET:
        memset(v4, 0, sizeof(sockaddr_in))
        v4.sin_family = AF_INET
        v4.sin_port = htons(a.port)
        memcpy(&v4.sin_addr, a.ip, 4)
        return sizeof(sockaddr_in)
    memset(v6, 0, sizeof(sockaddr_in6))
    v6.sin6_family = AF_INET6
    v6.sin6_port = htons(a.port)
    memcpy(&v6.sin6_addr, a.ip, 16)
    return sizeof(sockaddr_in6)


cdef void addr_from_sockaddr(addr_t* a, const sockaddr_storage* s) noexcept nogil:
    cdef const sockaddr_in* v4 = <const sockaddr_in*>s
    cdef const sockaddr_in6* v6 = <const sockaddr_in6*>s

    memset(a, 0, sizeof(addr_t))
    if s.ss_family == AF_INET:
        a.family = AF_INET
        a.port = ntohs(v4.sin_port)
        memcpy(a.ip, &v4.sin_addr, 4)
    elif s.ss_family == AF_INET6:
        a.port = ntohs(v6.sin6_port)
        if memcmp(&v6.sin6_addr, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
            a.family = AF_INET
            memcpy(a.ip, <const char*>&v6.sin6_addr + 12, 4)
        else:
            a.family = AF_INET6
            memcpy(a.ip, &v6.sin6_addr, 16)


cdef bint addr_is_loopback(const addr_t* a) noexcept nogil:
    if a.family == AF_INET:
        return a.ip[0] == 127
    return memcmp(a.ip, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16) == 0


cdef str addr_text(const addr_t* a):
    cdef char text[64]
    if inet_ntop(a.family, a.ip, text, sizeof(text)) == NULL:
        return "?"
    return text.decode("ascii")
