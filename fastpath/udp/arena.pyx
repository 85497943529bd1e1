"""Receiving: one recvmmsg(2), and what its control messages say.

Sources: udp(7) for UDP_GRO, ip(7) and ipv6(7) for addresses, socket(7) for SO_RXQ_OVFL.
"""

from libc.errno cimport EINTR, ENOMEM, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastpath.base.addr cimport addr_from_sockaddr, addr_set_ipv6
from fastpath.base.linux.datagram cimport (
    CMSG_DATA,
    CMSG_FIRSTHDR,
    CMSG_NXTHDR,
    IPV6_ORIGDSTADDR,
    IPV6_PKTINFO,
    IP_ORIGDSTADDR,
    IP_PKTINFO,
    SOL_UDP,
    SO_RXQ_OVFL,
    UDP_GRO,
    cmsghdr,
    in6_pktinfo,
    in_pktinfo,
    msghdr,
    recvmmsg,
)
from fastpath.base.linux.socket cimport (
    AF_INET,
    IPPROTO_IP,
    IPPROTO_IPV6,
    MSG_DONTWAIT,
    SOL_SOCKET,
    recv,
    sockaddr_in6,
    sockaddr_storage,
)


# The kernel wrote into it: as it was before the first use.
cdef inline void arena_renew(arena_t* a, uint32_t i) noexcept nogil:
    cdef msghdr* h = &a.headers[i].msg_hdr

    h.msg_namelen = sizeof(sockaddr_in6)
    h.msg_controllen = ARENA_CONTROL


cdef int arena_init(arena_t* a) noexcept nogil:
    cdef uint32_t i

    # Not calloc(3): it would touch what is from a former use.
    a.memory = <char*>malloc(<size_t>ARENA_SLOTS * ARENA_STRIDE)
    if a.memory == NULL:
        return -ENOMEM
    for i in range(ARENA_SLOTS):
        a.vectors[i].iov_base = a.memory + <size_t>i * ARENA_STRIDE
        a.vectors[i].iov_len = 65536
        a.headers[i].msg_hdr.msg_name = a.names[i]
        a.headers[i].msg_hdr.msg_iov = &a.vectors[i]
        a.headers[i].msg_hdr.msg_iovlen = 1
        a.headers[i].msg_hdr.msg_control = a.control[i]
        arena_renew(a, i)
    return 0


cdef void arena_fini(arena_t* a) noexcept nogil:
    free(a.memory)
    a.memory = NULL


cdef void read_ip(datagram_t* d, int kind, const void* data) noexcept nogil:
    cdef in_pktinfo info

    if kind == IP_ORIGDSTADDR:
        addr_from_sockaddr(&d.dialled, <const sockaddr_storage*>data)
    elif kind == IP_PKTINFO:
        memcpy(&info, data, sizeof(info))
        d.dialled.family = AF_INET
        memcpy(d.dialled.ip, &info.ipi_spec_dst, 4)


cdef void read_ipv6(datagram_t* d, int kind, const void* data) noexcept nogil:
    cdef in6_pktinfo info

    if kind == IPV6_ORIGDSTADDR:
        addr_from_sockaddr(&d.dialled, <const sockaddr_storage*>data)
    elif kind == IPV6_PKTINFO:
        memcpy(&info, data, sizeof(info))
        addr_set_ipv6(&d.dialled, info.ipi6_addr.s6_addr)


cdef void read_control(datagram_t* d, msghdr* h) noexcept nogil:
    cdef cmsghdr* c = CMSG_FIRSTHDR(h)
    cdef int segment = 0

    while c != NULL:
        if c.cmsg_level == SOL_UDP and c.cmsg_type == UDP_GRO:
            memcpy(&segment, CMSG_DATA(c), sizeof(segment))
            if 0 < segment < <int>d.size:
                d.segment = segment
        elif c.cmsg_level == SOL_SOCKET and c.cmsg_type == SO_RXQ_OVFL:
            memcpy(&d.lost, CMSG_DATA(c), sizeof(d.lost))
        elif c.cmsg_level == IPPROTO_IP:
            read_ip(d, c.cmsg_type, CMSG_DATA(c))
        elif c.cmsg_level == IPPROTO_IPV6:
            read_ipv6(d, c.cmsg_type, CMSG_DATA(c))
        c = CMSG_NXTHDR(h, c)


cdef int arena_receive(
    arena_t* a, int fd, uint32_t first, uint32_t most
) noexcept nogil:
    cdef int n = recvmmsg(fd, &a.headers[first], most, MSG_DONTWAIT, NULL)
    cdef datagram_t* d
    cdef msghdr* h
    cdef uint32_t i

    while n == -1 and errno == EINTR:
        n = recvmmsg(fd, &a.headers[first], most, MSG_DONTWAIT, NULL)
    if n == -1:
        return -errno
    for i in range(first, first + n):
        d = &a.got[i]
        h = &a.headers[i].msg_hdr
        memset(d, 0, sizeof(datagram_t))
        d.data = <char*>a.vectors[i].iov_base
        d.size = a.headers[i].msg_len
        d.name_size = h.msg_namelen
        d.next = NONE_NEXT
        if h.msg_controllen > 0:
            read_control(d, h)
        arena_renew(a, i)
    return n


cdef int arena_receive_one(arena_t* a, int fd, uint32_t slot) noexcept nogil:
    cdef datagram_t* d = &a.got[slot]
    cdef void* into = a.vectors[slot].iov_base
    cdef ssize_t n = recv(fd, into, 65536, MSG_DONTWAIT)

    while n == -1 and errno == EINTR:
        n = recv(fd, into, 65536, MSG_DONTWAIT)
    if n == -1:
        return -errno
    d.data = <char*>into
    d.size = <uint32_t>n
    d.segment = 0
    d.lost = 0
    d.next = NONE_NEXT
    return 1
