# URLs of responses, moved from the upstream's paths to those that clients see.
#
# Sources: RFC 3986 5.2.4 and 6.2.2; the URL rules of the API server's proxy
# (apimachinery, pkg/util/proxy/transport.go).
from libc.stdint cimport uint8_t, uint32_t
from fastpath.base.addr cimport addr_t
from fastpath.http1.compose cimport edits_t, headers_t, out_put, out_t, text_t

# A path, or what begins with it and a slash, from here to there. No slash last; "/" is
# empty.
cdef struct mapping_t:
    text_t from_
    text_t to

# Edits of a response. Text is that of the edits_t beside it.
cdef struct filter_t:
    headers_t         headers
    const mapping_t*  mappings       # borrowed; of Location and Content-Location
    uint32_t          mapping_count
    text_t            hosts          # ",a:80,b,": authorities by which clients call us
    text_t            cookie_path    # no slash last; "/" is empty
    uint8_t           any            # there is something to do
    uint8_t           cookies
    uint8_t           upgraded       # a 101 is edited, too
    uint8_t           pages          # URLs in HTML are mapped, too

# A stretch of a value.
cdef struct part_t:
    const char* at
    uint32_t    size

cdef inline part_t part_of(const char* at, const char* end) noexcept nogil:
    cdef part_t p

    p.at = at
    p.size = <uint32_t>(end - at)
    return p

cdef inline void put_part(out_t* o, part_t p) noexcept nogil:
    out_put(o, p.at, p.size)

cdef inline part_t text_part(const edits_t* e, text_t t) noexcept nogil:
    return part_of(e.text + t.at, e.text + t.at + t.size)

# Whether `p` is `prefix` (no slash last), or begins with it and a slash.
cdef bint is_under(part_t p, part_t prefix) noexcept nogil

# Where the first of three bytes stands, or `end`.
cdef const char* find_any(
    const char* p, const char* end, char one, char two, char three
) noexcept nogil

# Write the URL `value`, mapped if it is one of the upstream's at `upstream` or of ours;
# return whether it is. `raw`: bytes that no URL may have stay, as whoever reads a page
# deals with them.
cdef bint put_url(
    out_t* o, part_t value, const filter_t* f, const edits_t* e, const addr_t* upstream,
    bint raw,
) noexcept nogil
