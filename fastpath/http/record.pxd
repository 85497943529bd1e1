# What is counted of an exchange, and what a log gets of it.
from libc.stdint cimport uint64_t
from fastpath.http.state cimport conns_t, exchange_t

# Note what a log wants of the request with the head x.head, if its vip has a log.
cdef void record_begin(conns_t* w, exchange_t* x) noexcept nogil

# Note what Python calls the answer that decides about the request.
cdef inline void record_label(exchange_t* x, uint64_t label) noexcept nogil:
    if x.record != NULL:
        x.record.label = label

# Hand over what was noted, if it was not yet; of an exchange that is cut off, too.
cdef void record_end(conns_t* w, exchange_t* x) noexcept nogil

# Count an exchange that was answered, or will not be; once. `goes_on`: it is a tunnel
# from here, whose end is one more record.
cdef void exchange_count(conns_t* w, exchange_t* x, bint goes_on) noexcept nogil
