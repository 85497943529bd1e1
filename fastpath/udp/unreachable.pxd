# "Port unreachable" for a client whose datagram no backend takes. A socket of UDP
# cannot say that; a raw one can, with CAP_NET_RAW. Without it nothing is told.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.linux.socket cimport sockaddr_in6
from fastpath.udp.index cimport key_t

cdef enum:
    UNREACHABLE_MOST = 1000   # a second, as a client's address may be forged

cdef struct unreachable_t:
    int       fds[2]          # owned; for IPv4 and IPv6; -1 = none, -2 = not tried yet
    uint64_t  second
    uint32_t  sent            # in it

cdef void unreachable_init(unreachable_t* u) noexcept nogil
cdef void unreachable_fini(unreachable_t* u) noexcept nogil

# Tell the client of `key` that a datagram reached nobody. `name` is its address, too.
cdef void unreachable_tell(
    unreachable_t* u, const key_t* key, const sockaddr_in6* name, uint64_t now_ms
) noexcept nogil
