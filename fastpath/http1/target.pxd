# Request targets and authorities, sans I/O. Sources: RFC 9112, 3.2; RFC 3986, 3.2.
from libc.stdint cimport uint32_t

from fastpath.http1.field cimport span_t

cdef enum TARGET:
    TARGET_ODD
    TARGET_ORIGIN            # "/path?query"
    TARGET_ABSOLUTE          # "http://host/path?query", or https
    TARGET_AUTHORITY         # "host:port", of CONNECT only
    TARGET_ASTERISK          # "*", of OPTIONS only

cdef struct target_t:
    span_t   path            # up to '?'; may be empty in absolute form, and is in
                             # authority form
    span_t   query           # with its '?'; may be empty
    span_t   host            # of the absolute form; else as it was

# Split what `method` asks for. All of its bytes are CLASS_TARGET already. Return which
# form it has; TARGET_ODD = none, or one that does not go with the method.
cdef TARGET target_split(
    target_t* t, const char* bytes, span_t method, span_t target
) noexcept nogil

# Whether bytes from `p` to `end` are "name", "name:port", "[ip]" or "[ip]:port". The
# name must not be empty, the port has one to five digits.
cdef bint host_is_fine(const char* p, const char* end) noexcept nogil

# The span of `bytes` from `start` to `stop`.
cdef inline span_t between(
    const char* bytes, const char* start, const char* stop
) noexcept nogil:
    cdef span_t s

    s.at = <uint32_t>(start - bytes)
    s.size = <uint32_t>(stop - start)
    return s
