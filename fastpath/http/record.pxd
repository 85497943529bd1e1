# What is counted of an exchange, and what the access log gets of it.
from fastpath.http.state cimport conns_t, exchange_t

# Note what the access log wants of the request with the head x.head, if its vip has a
# log.
cdef void record_begin(conns_t* w, exchange_t* x) noexcept nogil

# Count an exchange that was answered, or will not be; once.
cdef void exchange_count(conns_t* w, exchange_t* x) noexcept nogil
