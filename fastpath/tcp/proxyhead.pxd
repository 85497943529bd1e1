# The header by which a proxy names its client: PROXY protocol, versions 1 and 2.
#
# Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, 2.1 and 2.2.
from libc.stdint cimport uint32_t
from fastpath.base.addr cimport addr_t

cdef enum:
    PROXYHEAD_MOST = 4096    # bytes; others give addresses and a few hundred of TLVs

# Read the header at the start of `size` bytes. Return its length and, in `client`, the
# address that it names; family 0 = it names none (LOCAL, UNKNOWN, unix): the peer's own
# counts. Return -EAGAIN if more bytes are needed, never with PROXYHEAD_MOST at hand, or
# -EPROTO if this is no header, whatever comes.
cdef int proxyhead_read(
    const char* bytes, uint32_t size, addr_t* client
) noexcept nogil
