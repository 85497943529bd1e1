# How a vip speaks HTTP, as workers read it.
from libc.stdint cimport uint32_t
from fastpath.table.table cimport http_t

# Milliseconds; only 0 is 0, which has a meaning of its own to the core.
cdef uint32_t ms_of(seconds) except? 0xffffffff

# Fill in, from an Http, what is zeroed; `kept` gets what it borrows from.
cdef http_fill(http_t* http, spec, list kept)
