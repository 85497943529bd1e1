# Datagrams: recvmmsg(2), sendmmsg(2), cmsg(3), udp(7), ip(7), ipv6(7), icmp.
# Declarations only.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t
from fastpath.base.linux.clock cimport timespec
from fastpath.base.linux.socket cimport in6_addr, in_addr, socklen_t

cdef extern from "<sys/socket.h>" nogil:
    cdef struct iovec:
        void* iov_base
        size_t iov_len
    cdef struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    cdef struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    enum:
        SO_RCVBUF
        SO_RCVBUFFORCE
        SO_SNDBUF
        SO_SNDBUFFORCE
        SO_RXQ_OVFL
        SO_MEMINFO
        MSG_TRUNC
    int recvmmsg(
        int fd, mmsghdr* messages, unsigned int count, int flags, timespec* timeout
    )
    int sendmmsg(int fd, mmsghdr* messages, unsigned int count, int flags)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    cmsghdr* CMSG_FIRSTHDR(msghdr* message)
    cmsghdr* CMSG_NXTHDR(msghdr* message, cmsghdr* before)
    uint8_t* CMSG_DATA(cmsghdr* header)
    size_t CMSG_LEN(size_t size)
    size_t CMSG_SPACE(size_t size)

cdef extern from "<netinet/in.h>" nogil:
    cdef struct in_pktinfo:
        unsigned int ipi_ifindex
        in_addr ipi_spec_dst
        in_addr ipi_addr
    cdef struct in6_pktinfo:
        in6_addr ipi6_addr
        unsigned int ipi6_ifindex
    enum:
        IP_PKTINFO
        IPV6_PKTINFO
        IPV6_RECVPKTINFO
        IPPROTO_ICMP
        IPPROTO_ICMPV6
        IPPROTO_RAW

# Some C libraries do not know the newer ones.
cdef extern from * nogil:
    """
    #include <netinet/in.h>
    #include <netinet/udp.h>
    #ifndef SOL_UDP
    #define SOL_UDP 17
    #endif
    #ifndef UDP_SEGMENT
    #define UDP_SEGMENT 103
    #endif
    #ifndef UDP_GRO
    #define UDP_GRO 104
    #endif
    #ifndef IP_ORIGDSTADDR
    #define IP_ORIGDSTADDR 20
    #endif
    #ifndef IPV6_ORIGDSTADDR
    #define IPV6_ORIGDSTADDR 74
    #endif
    #ifndef SO_MEMINFO
    #define SO_MEMINFO 55
    #endif
    #define FP_MEMINFO_VARS 9   /* SK_MEMINFO_VARS of linux/sock_diag.h */
    #define FP_MEMINFO_DROPS 8
    #define FP_SOL_RAW 255
    #define FP_ICMP_FILTER 1
    #define FP_ICMP6_FILTER 1
    """
    enum:
        SOL_UDP
        UDP_SEGMENT
        UDP_GRO
        IP_ORIGDSTADDR       # also the option: IP_RECVORIGDSTADDR
        IPV6_ORIGDSTADDR
        MEMINFO_VARS "FP_MEMINFO_VARS"
        MEMINFO_DROPS "FP_MEMINFO_DROPS"
        SOL_RAW "FP_SOL_RAW"
        ICMP_FILTER "FP_ICMP_FILTER"
        ICMP6_FILTER "FP_ICMP6_FILTER"
