# Accept-Encoding as upstreams see it whose pages may be rewritten: less the codings
# that we do not understand. Source: RFC 9110 12.5.3.
from libc.stdint cimport uint32_t
from fastpath.http1.field cimport same
from fastpath.http1.framing cimport header_t

cdef enum:
    CODINGS_MORE = 16        # bytes of a line beside its name and twice its value

cdef inline bint is_codings(const char* bytes, const header_t* h) noexcept nogil:
    return h.name.size == 15 and same(bytes + h.name.at, 15, b"accept-encoding")

# Write the header's line with those members that name gzip, deflate or identity; return
# its size. There is always a member: "identity", which an empty list means, too.
cdef uint32_t codings_line(
    char* into, const char* bytes, const header_t* h
) noexcept nogil
