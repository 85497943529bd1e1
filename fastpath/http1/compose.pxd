# Heads as we send them: what came, less what is hop-by-hop, with edits.
# Writes into the caller's buffer, allocates nothing. Sources: RFC 9110 7.6, RFC 9112.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.http1.field cimport H_CONNECTION, H_TRAILER, H_UPGRADE
from fastpath.http1.framing cimport head_t, header_t

cdef enum:
    SIZES = 63               # names this long share a bit of headers_t.sizes

# Text inside of edits_t.text.
cdef struct text_t:
    uint32_t at
    uint32_t size

# A header that is taken away, set, or given where there is none.
cdef struct edit_t:
    text_t   name            # lower case
    text_t   line            # "Name: value\r\n"; empty = take it away
    uint8_t  only_absent
    uint8_t  is_prefix       # every header whose name begins with this

# Edits of the headers of one head, at most 64.
cdef struct headers_t:
    uint64_t       sizes     # bit n: the name of an edit has n bytes, see SIZES
    uint32_t       count
    const edit_t*  list      # borrowed

# What becomes of a request on its way to an upstream. Text and list belong to the
# verdict that has the edits.
cdef struct edits_t:
    const char*  text        # borrowed
    headers_t    headers
    text_t       host        # replaces Host; empty = as it came
    text_t       prefix      # of the path ...
    uint32_t     strip       # ... instead of so many bytes
    text_t       upgrades    # ",websocket,spdy/3.1,": the protocols that are allowed
    uint8_t      any_upgrade
    uint8_t      forwarded_for  # append the client's ip to X-Forwarded-For
    uint8_t      pages       # the response may be rewritten: ask for codings we know

cdef struct out_t:
    char*   bytes            # borrowed
    size_t  room
    size_t  size
    bint    full             # something did not fit: the head is of no use

cdef void out_put(out_t* o, const char* bytes, size_t size) noexcept nogil

# A request for the upstream. `client` is appended to X-Forwarded-For if the edits say
# so and it has an ip. `upgrade`: the edits allow the one that the head asks.
cdef void compose_request(
    out_t* o, const head_t* h, const char* bytes, const edits_t* e,
    const addr_t* client, bint upgrade,
) noexcept nogil

# A response for the client, which spoke HTTP/1.`minor`; `keep` = the connection stays.
# `unchunk`: the body will be sent without its framing. A 101 keeps its Upgrade.
cdef void compose_response(
    out_t* o, const head_t* h, const char* bytes, uint16_t minor, bint keep,
    bint unchunk,
) noexcept nogil

# ---- The parts of compose_response, for edits of responses (http/filter).

cdef void compose_status(out_t* o, const head_t* h, const char* bytes) noexcept nogil

# The framing headers that are ours to say, and the end of the head.
cdef void compose_end(
    out_t* o, const head_t* h, uint16_t minor, bint keep, bint unchunk
) noexcept nogil

# Whether a header of a response is passed on.
cdef inline bint compose_passes(
    const head_t* h, const header_t* header, bint chunked
) noexcept nogil:
    # Trailers are passed on, so is their announcement.
    return not header.hop or (chunked and header.known == H_TRAILER) or (
        h.status == 101 and (
            header.known == H_UPGRADE or header.known == H_CONNECTION
        )
    )

cdef void put_header(out_t* o, const char* bytes, const header_t* h) noexcept nogil

# Index of the edit about a header, or -1.
cdef int edit_find(
    const headers_t* e, const char* text, const char* bytes, const header_t* h
) noexcept nogil

cdef inline int edit_of(
    const headers_t* e, const char* text, const char* bytes, const header_t* h
) noexcept nogil:
    # Most names have a length that no edit's name has.
    if not e.sizes >> (h.name.size if h.name.size < SIZES else SIZES) & 1:
        return -1
    return edit_find(e, text, bytes, h)

# Whether a word, in any case, is in a list like ",one,two,", which is in lower case.
cdef bint is_listed(
    const char* list_, uint32_t list_size, const char* word, uint32_t size
) noexcept nogil

# The lines that the edits set, or give because `seen` (by index) lacks that header.
cdef void put_edits(
    out_t* o, const headers_t* e, const char* text, uint64_t seen
) noexcept nogil

# ---- Replies of our own.

# `head` is a status line and headers, to which ours are added; the `body` is left out
# if the reply answers a HEAD.
cdef void compose_reply(
    out_t* o, const char* head, uint32_t head_size, const char* body,
    uint32_t body_size, uint16_t minor, bint keep, bint to_head,
) noexcept nogil

# How many bytes a text has inside of a string of JSON.
cdef size_t escaped_size(const char* text) noexcept nogil

# A reply whose body is `before`, `text` as in a string of JSON, `after`. `head` is its
# status line and headers, less the length.
cdef void compose_between(
    out_t* o, const char* head, const char* before, const char* text,
    const char* after, uint16_t minor, bint keep, bint to_head,
) noexcept nogil

# One line of plain text.
cdef void compose_text(
    out_t* o, uint16_t status, const char* text, uint16_t minor, bint keep,
    bint to_head,
) noexcept nogil

# Whether the edits allow every protocol that the head asks to upgrade to: with several
# Upgrade lines, each of them.
cdef bint upgrade_allowed(
    const head_t* h, const char* bytes, const edits_t* e
) noexcept nogil
