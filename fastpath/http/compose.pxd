# Heads as we send them: what came, less what is hop-by-hop, edited by a verdict.
# Writes into the caller's buffer, allocates nothing. Sources: RFC 9110 7.6, RFC 9112.
from libc.stdint cimport uint16_t, uint32_t
from fastpath.base.addr cimport addr_t
from fastpath.http.verdict cimport verdict_t
from fastpath.http1.framing cimport head_t

cdef struct out_t:
    char*   bytes            # borrowed
    size_t  room
    size_t  size
    bint    full             # something did not fit: the head is of no use

cdef void out_put(out_t* o, const char* bytes, size_t size) noexcept nogil

# A request for the upstream. `client` is appended to X-Forwarded-For if the verdict
# says so and it has an ip. `upgrade`: the verdict allows the one that the head asks.
cdef void compose_request(
    out_t* o, const head_t* h, const char* bytes, const verdict_t* v,
    const addr_t* client, bint upgrade,
) noexcept nogil

# A response for the client, who spoke HTTP/1.`minor`; `keep` = the connection stays.
# `unchunk`: the body will be sent without its framing. A 101 keeps its Upgrade.
cdef void compose_response(
    out_t* o, const head_t* h, const char* bytes, uint16_t minor, bint keep,
    bint unchunk,
) noexcept nogil

# The reply of a verdict; without its body if it answers a HEAD.
cdef void compose_reply(
    out_t* o, const verdict_t* v, uint16_t minor, bint keep, bint to_head
) noexcept nogil

# A reply of our own: one line of plain text.
cdef void compose_text(
    out_t* o, uint16_t status, const char* text, uint16_t minor, bint keep,
    bint to_head,
) noexcept nogil

# Whether the verdict allows the protocol that the head asks to upgrade to.
cdef bint upgrade_allowed(
    const head_t* h, const char* bytes, const verdict_t* v
) noexcept nogil
