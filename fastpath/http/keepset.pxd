# Upstream connections while nobody uses them, and their end.
from libc.stdint cimport uint32_t
from fastpath.base.slab cimport slab_at
from fastpath.http.web cimport exchange_t, server_t, web_t

cdef inline server_t* server_at(web_t* w, uint32_t index) noexcept nogil:
    return <server_t*>slab_at(&w.servers, index)

# Take a connection that is idle out of its keepset.
cdef void keepset_take(web_t* w, server_t* s) noexcept nogil

# The one way out of a connection that no exchange has.
cdef void server_close(web_t* w, server_t* s, bint reset) noexcept nogil

# Take the connection from its exchange: keep it for others, or close it, and lose what
# it did not take yet.
cdef void upstream_keep(web_t* w, exchange_t* x) noexcept nogil
cdef void upstream_leave(web_t* w, exchange_t* x, bint reset) noexcept nogil

# An idle connection had an event, or its timer fired.
cdef void upstream_idle_event(web_t* w, server_t* s) noexcept nogil
cdef void upstream_idle_timer(web_t* w, server_t* s) noexcept nogil

# Close idle connections to upstreams that the table does not have any more.
cdef void upstream_sweep(web_t* w) noexcept nogil

# Make room for the keepsets of so many upstreams. False = no memory.
cdef bint upstream_room(web_t* w, uint32_t slots) noexcept nogil

# Close all of them.
cdef void upstream_fini(web_t* w) noexcept nogil
