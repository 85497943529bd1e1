# Upstream connections while nobody uses them, and their end.
from libc.stdint cimport uint32_t
from fastpath.base.slab cimport slab_at
from fastpath.http.state cimport conns_t, exchange_t, upconn_t

cdef inline upconn_t* upconn_at(conns_t* w, uint32_t index) noexcept nogil:
    return <upconn_t*>slab_at(&w.upconns, index)

# Take a connection that is idle out of its keepset.
cdef void idle_take(conns_t* w, upconn_t* s) noexcept nogil

# The one way out of a connection that no exchange has.
cdef void upconn_close(conns_t* w, upconn_t* s, bint reset) noexcept nogil

# Take the connection from its exchange: keep it for others, or close it, and lose what
# it did not take yet.
cdef void exchange_keep_upconn(conns_t* w, exchange_t* x) noexcept nogil
cdef void exchange_leave_upconn(conns_t* w, exchange_t* x, bint reset) noexcept nogil

# An idle connection had an event, or its timer fired.
cdef void idle_event(conns_t* w, upconn_t* s) noexcept nogil
cdef void idle_timer(conns_t* w, upconn_t* s) noexcept nogil

# Close idle connections to upstreams that the table does not have any more.
cdef void idle_sweep(conns_t* w) noexcept nogil

# Make room for the idle_sets of the table's upstreams. False = no memory.
cdef bint idle_make_room(conns_t* w, uint32_t slots) noexcept nogil

# Close all of them.
cdef void upconns_fini(conns_t* w) noexcept nogil
