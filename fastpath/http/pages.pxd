# Memory of pages that are rewritten, larger than all else that an exchange has: taken
# for one response, and bounded.
from fastpath.http.coding cimport CODING
from fastpath.http.state cimport conns_t, exchange_t

cdef enum:
    REWRITES_MOST = 128      # at a time in a worker; 33 KB each, 240 KB with a coding

# Have x.rewrite for the response at hand. False = no memory.
cdef bint rewrite_new(conns_t* w, exchange_t* x, CODING coding) noexcept nogil

# Give it back. NULL is accepted.
cdef void rewrite_free(conns_t* w, exchange_t* x) noexcept nogil
