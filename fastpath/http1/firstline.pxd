# First lines of heads, and how a line ends. Each function returns what stands behind
# the piece that it has read, or NULL: h.fault says why, and FAULT_NONE asks for more.
from fastpath.http1.field cimport CR, LF
from fastpath.http1.framing cimport FAULT, FAULT_EOL, head_t

# From `bytes`, the front of the head, up to `end`.
cdef const char* request_line(
    head_t* h, const char* bytes, const char* end
) noexcept nogil
cdef const char* status_line(
    head_t* h, const char* bytes, const char* end
) noexcept nogil

cdef inline const char* refuse(head_t* h, FAULT fault) noexcept nogil:
    h.fault = fault
    return NULL


cdef inline const char* line_end(
    head_t* h, const char* p, const char* end, FAULT otherwise
) noexcept nogil:
    if p == end:
        return NULL
    if p[0] != CR:
        return refuse(h, FAULT_EOL if p[0] == LF else otherwise)
    if p + 1 == end:
        return NULL
    if p[1] != LF:
        return refuse(h, otherwise)
    return p + 2
