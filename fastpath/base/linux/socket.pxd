# Sockets: socket(2), ip(7), tcp(7). Declarations only.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t
    cdef struct sockaddr:
        sa_family_t sa_family
    cdef struct sockaddr_storage:
        sa_family_t ss_family
    cdef struct linger:
        int l_onoff
        int l_linger
    enum:
        AF_INET
        AF_INET6
        AF_UNIX
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ACCEPTCONN
        SO_PROTOCOL
        SO_REUSEADDR
        SO_REUSEPORT
        SO_KEEPALIVE
        SO_LINGER
        SO_ERROR
        MSG_PEEK
        MSG_DONTWAIT
        MSG_NOSIGNAL
        MSG_MORE
        SHUT_WR
    int socket(int domain, int type, int protocol)
    int bind(int fd, const sockaddr* addr, socklen_t size)
    int listen(int fd, int backlog)
    int accept4(int fd, sockaddr* addr, socklen_t* size, int flags)
    int connect(int fd, const sockaddr* addr, socklen_t size)
    int shutdown(int fd, int how)
    int getpeername(int fd, sockaddr* addr, socklen_t* size)
    int getsockname(int fd, sockaddr* addr, socklen_t* size)
    int getsockopt(int fd, int level, int name, void* value, socklen_t* size)
    int setsockopt(int fd, int level, int name, const void* value, socklen_t size)

# The C library makes these two points of thread cancellation, which costs two atomics a
# call in a process with threads: 1 % of a small request. No thread of ours is ever
# cancelled. Sanitizers watch the library's functions, so their builds keep them.
cdef extern from * nogil:
    """
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #if defined(FASTPATH_DEBUG) || !defined(SYS_recvfrom) || !defined(SYS_sendto)
    #define fp_recv recv
    #define fp_send send
    #else
    #define fp_recv(fd, into, size, flags) \\
        syscall(SYS_recvfrom, (fd), (into), (size), (flags), NULL, NULL)
    #define fp_send(fd, data, size, flags) \\
        syscall(SYS_sendto, (fd), (data), (size), (flags), NULL, 0)
    #endif
    """
    ssize_t recv "fp_recv"(int fd, void* into, size_t size, int flags)
    ssize_t send "fp_send"(int fd, const void* data, size_t size, int flags)

cdef extern from "<sys/un.h>" nogil:
    cdef struct sockaddr_un:
        sa_family_t sun_family
        char sun_path[108]

cdef extern from "<netinet/in.h>" nogil:
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct in6_addr:
        uint8_t s6_addr[16]
    cdef struct sockaddr_in:
        sa_family_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    cdef struct sockaddr_in6:
        sa_family_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    enum:
        IPPROTO_TCP
        IPPROTO_IPV6
        IPPROTO_IP
        IP_TRANSPARENT
        IPV6_TRANSPARENT
        IPV6_V6ONLY
        IP_BIND_ADDRESS_NO_PORT

# Of Linux 6.3; headers may be older.
cdef extern from * nogil:
    """
    #ifndef IP_LOCAL_PORT_RANGE
    #define IP_LOCAL_PORT_RANGE 51
    #endif
    """
    enum:
        IP_LOCAL_PORT_RANGE

cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY
        TCP_KEEPIDLE
        TCP_KEEPINTVL
        TCP_KEEPCNT
        TCP_USER_TIMEOUT
        TCP_DEFER_ACCEPT
        TCP_QUICKACK

cdef extern from "<arpa/inet.h>" nogil:
    int inet_pton(int family, const char* text, void* into)
    const char* inet_ntop(int family, const void* addr, char* into, socklen_t size)
    uint16_t htons(uint16_t host)
    uint16_t ntohs(uint16_t net)
