# A page of HTML on its way: its URLs mapped as those of a head, all other bytes as they
# came. No I/O: bytes in, as far as there is room for what comes of them.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.http.coding cimport CODING, coder_t
from fastpath.http.location cimport filter_t
from fastpath.http1.compose cimport edits_t, out_t
from fastpath.http1.html cimport HTML_VALUE_MOST, html_t

cdef enum:
    PAGE_MAPPED_MOST = 16384   # bytes of a value whose URLs are mapped

cdef struct page_t:
    html_t           html
    const filter_t*  filter        # borrowed, as `edits`; their verdict is held
    const edits_t*   edits
    addr_t           upstream      # whose URLs these are
    coder_t*         coder         # owned; NULL = the body has no content coding
    uint64_t         worked        # bytes that were read or inflated
    uint32_t         untouched     # values that were too long
    const char*      left          # borrowed, of a value: bytes that have had no room
    uint32_t         left_size
    char             mapped[PAGE_MAPPED_MOST]
    char             plain[HTML_VALUE_MOST]   # a value without references

# A page that came from `upstream`. False = no memory. page_fini accepts zeroed ones.
cdef bint page_init(
    page_t* p, const filter_t* f, const edits_t* e, const addr_t* upstream,
    CODING coding,
) noexcept nogil
cdef void page_fini(page_t* p) noexcept nogil

# Take bytes, until `o` is full or `most` bytes of work were done. Return how many were
# taken, or -1: their coding is wrong. More may be to come without another byte.
cdef ssize_t page_feed(
    page_t* p, const char* bytes, size_t size, out_t* o, uint64_t most
) noexcept nogil

# Let all out that was taken; at the `end` of the page, all that there is. 1 = done,
# 0 = `o` is full, or the work is: call again; -1 = its coding is wrong, or was cut.
cdef int page_drain(page_t* p, out_t* o, uint64_t most, bint end) noexcept nogil
