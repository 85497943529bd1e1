# Edits of responses on their way to the client: headers set, removed and given; URLs
# and paths of cookies mapped.
#
# Writes into the caller's buffer, allocates nothing. Framing headers are not for edits.
# Sources: RFC 6265 5.2, and location.pxd.
from libc.stdint cimport uint16_t
from fastpath.base.addr cimport addr_t
from fastpath.http.location cimport filter_t
from fastpath.http1.compose cimport edits_t, out_t
from fastpath.http1.framing cimport head_t

# As compose_response, with edits. `e` is what was done to the request; `upstream` is
# the address that it went to; `page`: the body will be rewritten, and what the head
# says of its bytes goes. 1xx are not for this, but for a 101 with `upgraded`.
cdef void filter_response(
    out_t* o, const head_t* h, const char* bytes, uint16_t minor, bint keep,
    bint unchunk, const filter_t* f, const edits_t* e, const addr_t* upstream,
    bint page,
) noexcept nogil
