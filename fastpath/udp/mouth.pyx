"""A mouth sends from the address that clients dialled, whatever port brought them.

IP_PKTINFO on the transparent listener's socket would do where that has the vip's port;
where nftables redirects to another port it has not. So the mouth is bound to the vip's
address and port (IP_TRANSPARENT, beside the listener by SO_REUSEADDR) and connected to
a port of this host that nobody uses: datagrams of clients match the listener only, and
sendmsg(2) with an address goes to that one all the same. One for each vip that has
flows, so descriptors follow traffic and not the number of vips.
"""

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from fastpath.base.addr cimport addr_parse, addr_to_sockaddr
from fastpath.base.linux.file cimport close
from fastpath.base.linux.socket cimport (
    AF_INET6,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOL_SOCKET,
    SO_REUSEADDR,
    bind,
    connect,
    sockaddr,
    sockaddr_storage,
    socket,
    socklen_t,
)
from fastpath.base.socket cimport set_int
from fastpath.table.listener cimport set_transparent

cdef enum:
    DISCARD_PORT = 9


# Return the fd, or -1.
cdef int mouth_open(const addr_t* source) noexcept nogil:
    cdef int fd = socket(source.family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
    cdef bint v6 = source.family == AF_INET6
    cdef sockaddr_storage mine, nobody
    cdef socklen_t mine_size = addr_to_sockaddr(source, &mine)
    cdef socklen_t nobody_size
    cdef addr_t sink

    if fd == -1:
        return -1
    addr_parse(&sink, b"::1" if v6 else b"127.0.0.1", DISCARD_PORT)
    nobody_size = addr_to_sockaddr(&sink, &nobody)
    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    if v6:
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
    if (
        set_transparent(fd, source.family) == -1
        or bind(fd, <sockaddr*>&mine, mine_size) == -1
        or connect(fd, <sockaddr*>&nobody, nobody_size) == -1
    ):
        close(fd)
        return -1
    return fd


cdef bint mouth_room(flows_t* fs, uint32_t slot) noexcept nogil:
    cdef uint32_t room = fs.mouth_room if fs.mouth_room > 0 else 64
    cdef mouth_t** mouths

    if slot < fs.mouth_room:
        return True
    while room <= slot:
        room *= 2
    mouths = <mouth_t**>realloc(fs.mouths, room * sizeof(mouth_t*))
    if mouths == NULL:
        return False
    memset(&mouths[fs.mouth_room], 0, (room - fs.mouth_room) * sizeof(mouth_t*))
    fs.mouths = mouths
    fs.mouth_room = room
    return True


cdef mouth_t* mouth_take(
    flows_t* fs, uint32_t slot, const addr_t* source
) noexcept nogil:
    cdef mouth_t* m

    if not mouth_room(fs, slot):
        return NULL
    m = fs.mouths[slot]
    if m == NULL:
        m = <mouth_t*>calloc(1, sizeof(mouth_t))
        if m == NULL:
            return NULL
        m.fd = mouth_open(source)
        if m.fd == -1:
            free(m)
            return NULL
        m.vip = slot
        fs.mouths[slot] = m
    m.flows += 1
    return m


cdef void mouth_give(flows_t* fs, mouth_t* m) noexcept nogil:
    if m == NULL:
        return
    m.flows -= 1
    if m.flows == 0:
        fs.mouths[m.vip] = NULL
        close(m.fd)
        free(m)
