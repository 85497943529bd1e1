# Internet addresses as the core keeps them: 20 bytes instead of a sockaddr's 28.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastpath.base.linux.socket cimport sockaddr_storage, socklen_t

cdef struct addr_t:
    uint8_t  ip[16]     # network order; IPv4 in the first four, the rest zero
    uint16_t port       # host order
    uint8_t  family     # AF_INET or AF_INET6; 0 = none
    uint8_t  spare      # zero, so that two addresses compare bytewise

# The addresses that begin with the same bits.
cdef struct network_t:
    addr_t   addr       # one of them
    uint8_t  bits       # how many are the same, as its family counts them

# Read IP literal `text`, NUL-terminated. Return 0, or -EINVAL if it is neither
# IPv4 nor IPv6. Scope ids are not taken. An IPv4-mapped IPv6 address becomes IPv4.
cdef int addr_parse(addr_t* a, const char* text, uint16_t port) noexcept nogil

# Write `a` as a sockaddr into `into`; return its size in bytes.
cdef socklen_t addr_to_sockaddr(
    const addr_t* a, sockaddr_storage* into
) noexcept nogil

# Read a sockaddr as accept4(2) left it. An IPv4-mapped IPv6 address becomes IPv4, too,
# so that a client counts as the same source on both kinds of listener.
cdef void addr_from_sockaddr(addr_t* a, const sockaddr_storage* s) noexcept nogil

# The same from 16 bytes in network order; the port stays as it is.
cdef void addr_set_ipv6(addr_t* a, const uint8_t* ip) noexcept nogil

# Families are told apart: ::/0 holds no IPv4 address.
cdef bint network_holds(const network_t* n, const addr_t* a) noexcept nogil

# 127.0.0.0/8 or ::1: the handshake ends inside connect(2).
cdef bint addr_is_loopback(const addr_t* a) noexcept nogil

# Text form of the ip of `a`.
cdef str addr_text(const addr_t* a)

# Read the IP literal `host`. Raise TableError, which names it, if it is none.
cdef int address_of(addr_t* a, str host, uint16_t port) except -1
