# Parsed heads: those of requests are lent; that of the response at hand is
# conns_t.answer, with room for the most lines that an upstream can allow.
from fastpath.http.state cimport conns_t
from fastpath.http1.framing cimport head_t

# False = no memory.
cdef bint heads_init(conns_t* w) noexcept nogil
cdef void heads_fini(conns_t* w) noexcept nogil

# Lend a head to parse into, NULL = no memory; take it back. NULL is accepted.
cdef head_t* head_lend(conns_t* w) noexcept nogil
cdef void head_return(conns_t* w, head_t* h) noexcept nogil
