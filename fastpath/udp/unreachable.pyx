"""ICMP errors: what the kernel says for a closed port, said for a vip.

Sources: RFC 792 (destination unreachable), RFC 4443 3.1, RFC 1122 3.2.2.1: the header
of the datagram and its first 8 bytes, by which the client's kernel finds the socket.
"""

from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.base.addr cimport addr_t, addr_to_sockaddr
from fastpath.base.linux.datagram cimport (
    CMSG_DATA,
    CMSG_LEN,
    CMSG_SPACE,
    ICMP6_FILTER,
    ICMP_FILTER,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPV6_PKTINFO,
    IP_PKTINFO,
    SOL_RAW,
    cmsghdr,
    in6_pktinfo,
    in_pktinfo,
    iovec,
    msghdr,
    sendmsg,
)
from fastpath.base.linux.file cimport close
from fastpath.base.linux.socket cimport (
    AF_INET,
    AF_INET6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_UDP,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    SOCK_RAW,
    setsockopt,
    sockaddr_in6,
    sockaddr_storage,
    socket,
)
from fastpath.table.dialler cimport dialler_exhausted
from fastpath.table.listener cimport set_transparent

cdef enum:
    NOT_TRIED = -2
    ICMP_BYTES = 8 + 20 + 8
    ICMP6_BYTES = 8 + 40 + 8


cdef void unreachable_init(unreachable_t* u) noexcept nogil:
    u.fds[0] = NOT_TRIED
    u.fds[1] = NOT_TRIED


cdef void unreachable_fini(unreachable_t* u) noexcept nogil:
    cdef int i

    for i in range(2):
        if u.fds[i] >= 0:
            close(u.fds[i])
        u.fds[i] = NOT_TRIED


# A raw socket that receives nothing; -1 = we may not have one, or not now.
cdef int raw_open(bint v6) noexcept nogil:
    cdef int family = AF_INET6 if v6 else AF_INET
    cdef int protocol = IPPROTO_ICMPV6 if v6 else IPPROTO_ICMP
    cdef int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol)
    cdef uint8_t all_[32]

    if fd == -1:
        return NOT_TRIED if dialler_exhausted(errno) else -1
    memset(all_, 0xff, sizeof(all_))  # of both filters a set bit blocks
    if v6:
        setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, all_, 32)
    else:
        setsockopt(fd, SOL_RAW, ICMP_FILTER, all_, 4)
    set_transparent(fd, family)  # so that it may speak for a vip that is not ours
    return fd


cdef inline void put16(uint8_t* at, uint32_t value) noexcept nogil:
    at[0] = (value >> 8) & 0xff
    at[1] = value & 0xff


# RFC 1071, of an even number of bytes.
cdef uint32_t checksum(const uint8_t* bytes, uint32_t size) noexcept nogil:
    cdef uint32_t sum_ = 0
    cdef uint32_t i

    for i in range(0, size, 2):
        sum_ += <uint32_t>bytes[i] << 8 | bytes[i + 1]
    while sum_ > 0xffff:
        sum_ = (sum_ & 0xffff) + (sum_ >> 16)
    return ~sum_ & 0xffff


# The size of the datagram is not said: nobody looks at it.
cdef void write_udp(uint8_t* at, const key_t* key) noexcept nogil:
    put16(at, key.client.port)
    put16(at + 2, key.dialled.port)
    put16(at + 4, 8)


# The message, with room for the larger of both kinds. Return its size.
cdef uint32_t write_message(uint8_t* into, const key_t* key) noexcept nogil:
    memset(into, 0, ICMP6_BYTES)
    if key.client.family == AF_INET6:
        into[0] = 1  # destination unreachable
        into[1] = 4  # port unreachable; the kernel adds the checksum
        into[8] = 0x60
        put16(into + 12, 8)
        into[14] = IPPROTO_UDP
        into[15] = 64
        memcpy(into + 16, key.client.ip, 16)
        memcpy(into + 32, key.dialled.ip, 16)
        write_udp(into + 48, key)
        return ICMP6_BYTES
    into[0] = 3
    into[1] = 3
    into[8] = 0x45
    put16(into + 10, 28)
    into[16] = 64
    into[17] = IPPROTO_UDP
    memcpy(into + 20, key.client.ip, 4)
    memcpy(into + 24, key.dialled.ip, 4)
    put16(into + 18, checksum(into + 8, 20))
    write_udp(into + 28, key)
    put16(into + 2, checksum(into, ICMP_BYTES))
    return ICMP_BYTES


# Let it come from the address that was dialled.
cdef void write_source(msghdr* h, const addr_t* source) noexcept nogil:
    cdef cmsghdr* c = <cmsghdr*>h.msg_control
    cdef in_pktinfo v4
    cdef in6_pktinfo v6

    if source.family == AF_INET6:
        memset(&v6, 0, sizeof(v6))
        memcpy(&v6.ipi6_addr, source.ip, 16)
        c.cmsg_level = IPPROTO_IPV6
        c.cmsg_type = IPV6_PKTINFO
        c.cmsg_len = CMSG_LEN(sizeof(v6))
        memcpy(CMSG_DATA(c), &v6, sizeof(v6))
        h.msg_controllen = CMSG_SPACE(sizeof(v6))
        return
    memset(&v4, 0, sizeof(v4))
    memcpy(&v4.ipi_spec_dst, source.ip, 4)
    c.cmsg_level = IPPROTO_IP
    c.cmsg_type = IP_PKTINFO
    c.cmsg_len = CMSG_LEN(sizeof(v4))
    memcpy(CMSG_DATA(c), &v4, sizeof(v4))
    h.msg_controllen = CMSG_SPACE(sizeof(v4))


cdef void unreachable_tell(
    unreachable_t* u, const key_t* key, const sockaddr_in6* named, uint64_t now_ms
) noexcept nogil:
    cdef bint v6 = key.client.family == AF_INET6
    cdef uint8_t message[ICMP6_BYTES]
    cdef uint64_t control[8]  # aligned
    cdef sockaddr_storage name
    cdef addr_t client = key.client
    cdef msghdr h
    cdef iovec v

    if u.second != now_ms // 1000:
        u.second = now_ms // 1000
        u.sent = 0
    if u.fds[v6] == NOT_TRIED:
        u.fds[v6] = raw_open(v6)
    if u.fds[v6] < 0 or u.sent >= UNREACHABLE_MOST:
        return
    u.sent += 1
    client.port = 0  # a raw socket of IPv6 takes it for a protocol
    memset(&h, 0, sizeof(h))
    memset(control, 0, sizeof(control))
    h.msg_name = &name
    h.msg_namelen = addr_to_sockaddr(&client, &name)
    if v6:
        (<sockaddr_in6*>&name).sin6_scope_id = named.sin6_scope_id
    v.iov_base = message
    v.iov_len = write_message(message, key)
    h.msg_iov = &v
    h.msg_iovlen = 1
    h.msg_control = control
    h.msg_controllen = sizeof(control)
    write_source(&h, &key.dialled)
    sendmsg(u.fds[v6], &h, MSG_DONTWAIT | MSG_NOSIGNAL)
