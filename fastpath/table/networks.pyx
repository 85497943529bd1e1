"""Lists of networks: read once, looked through once a connection."""

from libc.stdlib cimport calloc

from fastpath.base.addr cimport address_of, network_holds

from fastpath.api.checks import split_network


cdef bint networks_find(const networks_t* n, const addr_t* a) noexcept nogil:
    cdef uint32_t i

    for i in range(n.count):
        if network_holds(&n.list[i], a):
            return True
    return False


cdef int networks_fill(networks_t* n, texts) except -1:
    cdef network_t* network

    if not texts:
        return 0
    n.list = <network_t*>calloc(len(texts), sizeof(network_t))
    if n.list == NULL:
        raise MemoryError
    for text in texts:
        network = &n.list[n.count]  # counted once it is read
        host, network.bits = split_network(text)
        address_of(&network.addr, host, 0)
        n.count += 1
    return 0
