"""Internet addresses: parse, format, convert. Knows no socket of its own."""

from libc.errno cimport EINVAL
from libc.string cimport memcmp, memcpy, memset

from fastpath.base.linux.socket cimport (
    AF_INET,
    AF_INET6,
    htons,
    inet_ntop,
    inet_pton,
    ntohs,
    sockaddr_in,
    sockaddr_in6,
)

from fastpath.api.errors import TableError


cdef void addr_set_ipv6(addr_t* a, const uint8_t* ip) noexcept nogil:
    if memcmp(ip, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
        a.family = AF_INET
        memcpy(a.ip, ip + 12, 4)
    else:
        a.family = AF_INET6
        memcpy(a.ip, ip, 16)


cdef int addr_parse(addr_t* a, const char* text, uint16_t port) noexcept nogil:
    cdef uint8_t ip[16]

    memset(a, 0, sizeof(addr_t))
    a.port = port
    if inet_pton(AF_INET, text, a.ip) == 1:
        a.family = AF_INET
        return 0
    if inet_pton(AF_INET6, text, ip) == 1:
        addr_set_ipv6(a, ip)
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
        addr_set_ipv6(a, <const uint8_t*>&v6.sin6_addr)


cdef bint addr_is_loopback(const addr_t* a) noexcept nogil:
    if a.family == AF_INET:
        return a.ip[0] == 127
    return memcmp(a.ip, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16) == 0


cdef bint network_holds(const network_t* n, const addr_t* a) noexcept nogil:
    cdef uint32_t whole = n.bits // 8
    cdef uint8_t rest = 0xff00 >> (n.bits % 8) & 0xff

    if a.family != n.addr.family or memcmp(a.ip, n.addr.ip, whole) != 0:
        return False
    return rest == 0 or (a.ip[whole] ^ n.addr.ip[whole]) & rest == 0


cdef str addr_text(const addr_t* a):
    cdef char text[64]
    if inet_ntop(a.family, a.ip, text, sizeof(text)) == NULL:
        return "?"
    return text.decode("ascii")


cdef int address_of(addr_t* a, str host, uint16_t port) except -1:
    text = host.encode("ascii", "replace")

    # C would not see what comes after a NUL.
    if b"\0" in text or addr_parse(a, text, port) < 0:
        raise TableError(f"{host!r} is not an IPv4 or IPv6 address")
    return 0


def canonical(str host, uint16_t port):
    """Return the bytes that all spellings of one address have in common.

    Raises:
        TableError: `host` is no IP literal.
    """
    cdef addr_t a
    address_of(&a, host, port)
    return (<const char*>&a)[:sizeof(addr_t)]


cdef class Address:
    """An address for tests, from text or from the bytes of a sockaddr."""

    cdef addr_t addr

    def __cinit__(self, text, uint16_t port=0):
        if addr_parse(&self.addr, text.encode(), port) < 0:
            raise ValueError(f"{text!r} is no address")

    @staticmethod
    def from_sockaddr(bytes data):
        cdef Address address = Address("::")
        cdef sockaddr_storage name
        memset(&name, 0, sizeof(name))
        memcpy(&name, <const char*>data, min(len(data), sizeof(name)))
        addr_from_sockaddr(&address.addr, &name)
        return address

    def sockaddr(self):
        cdef sockaddr_storage name
        cdef socklen_t size = addr_to_sockaddr(&self.addr, &name)
        return (<const char*>&name)[:size]

    def __bytes__(self):
        return (<const char*>&self.addr)[:sizeof(addr_t)]

    def __str__(self):
        return addr_text(&self.addr)

    @property
    def port(self):
        return self.addr.port

    @property
    def family(self):
        return self.addr.family

    def within(self, network, uint8_t bits):
        """Whether it agrees with the address `network` in the first `bits`."""
        cdef network_t n
        n.addr = (<Address>Address(network)).addr
        n.bits = bits
        return bool(network_holds(&n, &self.addr))

    @property
    def loopback(self):
        return bool(addr_is_loopback(&self.addr))
