# Upstream connections while no exchange uses them, and their end.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.slab cimport slab_at
from fastpath.http.state cimport conns_t, exchange_t, upconn_t
from fastpath.http.verdict cimport verdict_t
from fastpath.table.table cimport table_upstream, upstream_t

cdef inline upconn_t* upconn_at(conns_t* w, uint32_t index) noexcept nogil:
    return <upconn_t*>slab_at(&w.upconns, index)

# The upstream in `slot`, or NULL if the table has none, or another one, there now.
cdef inline upstream_t* upstream_in(
    conns_t* w, uint32_t slot, uint64_t stamp
) noexcept nogil:
    cdef upstream_t* v = table_upstream(w.c, slot)
    return v if v != NULL and v.stamp == stamp else NULL

# Take an idle connection to `v`, or to the address that the verdict names, out of its
# set; NULL = there is none. Unless `unchecked` the socket is looked at first: the peer
# may have closed it.
cdef upconn_t* idle_take(
    conns_t* w, const upstream_t* v, const verdict_t* verdict, bint unchecked
) noexcept nogil

# The one way out of a connection that no exchange has.
cdef void upconn_close(conns_t* w, upconn_t* u, bint reset) noexcept nogil

# Take the connection from its exchange: keep it for others; or close it, and drop what
# waits to be sent on it.
cdef void upconn_keep(conns_t* w, exchange_t* x) noexcept nogil
cdef void upconn_leave(conns_t* w, exchange_t* x, bint reset) noexcept nogil

# An idle connection had an event, or its timer fired.
cdef void idle_event(conns_t* w, upconn_t* u) noexcept nogil
cdef void idle_timer(conns_t* w, upconn_t* u) noexcept nogil

# Close idle connections to upstreams that the table does not have any more.
cdef void idle_sweep(conns_t* w) noexcept nogil

# Close all upstream connections.
cdef void idle_fini(conns_t* w) noexcept nogil
