# What Python decided about a request, and each worker's memory of it.
#
# A verdict is compiled once (see docket.pyx), never changes, and is shared by whoever
# remembers or carries it out. A memory belongs to one worker.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.http1.compose cimport edits_t, text_t
from fastpath.http1.framing cimport head_t
from fastpath.table.table cimport part_t

cdef enum:
    MEMORY_WAYS = 8          # entries a key may stand in: no chain grows under a flood
    MEMORY_SETS = 1024       # so 8,192 verdicts a worker
    MEMORY_MASKS = 64        # keys of different parts, over all vips
    KEY_BYTES_MOST = 8192    # a request with a longer key is asked about each time

cdef struct verdict_t:
    uint32_t  refs           # atomic
    uint8_t   is_reply
    uint8_t   close          # the connection after a reply
    uint8_t   replay
    uint16_t  ask_on         # status; 0 = none
    uint16_t  status         # of a reply
    uint32_t  upstream       # slot of a vip that is an upstream ...
    uint64_t  stamp          # ... and the one that was meant
    edits_t   edits          # of the request; their text is `bytes`
    text_t    head           # of a reply: status line and headers
    text_t    body
    char      bytes[1]       # text, and lists of edits behind it

cdef inline const char* verdict_text(const verdict_t* v, text_t t) noexcept nogil:
    return v.bytes + t.at

# Share a verdict, and let go of it: the last one frees it. NULL is accepted.
cdef void verdict_hold(verdict_t* v) noexcept nogil
cdef void verdict_release(verdict_t* v) noexcept nogil

cdef struct remembered_t:
    uint64_t    hash
    uint64_t    epoch
    uint64_t    expires_ms
    verdict_t*  verdict      # held
    uint32_t    vip
    uint32_t    size         # of key
    char        key[1]

# Keys of one vip that are made of these parts.
cdef struct mask_t:
    uint32_t vip
    uint16_t parts           # bit n: the n-th part of the vip's key

cdef struct memory_t:
    remembered_t** ways      # owned; NULL until something is remembered
    uint64_t  seed           # of the hash: nobody outside can aim at one set
    uint64_t  epoch          # of what masks stand for
    uint32_t  mask_count
    mask_t    masks[MEMORY_MASKS]
    char      key[KEY_BYTES_MOST]

# A request as keys see it.
cdef struct asked_t:
    const part_t*  parts     # of the vip; borrowed, as all that follow
    uint32_t       part_count
    uint32_t       vip       # slot
    const head_t*  head
    const char*    bytes     # that the head was parsed from
    const addr_t*  client

cdef void memory_init(memory_t* m, uint64_t seed) noexcept nogil
cdef void memory_fini(memory_t* m) noexcept nogil

# The verdict that is remembered for a request, borrowed until the next call of
# memory_keep; NULL = none. What is of another epoch is forgotten.
cdef verdict_t* memory_find(
    memory_t* m, const asked_t* a, uint64_t epoch, uint64_t now_ms
) noexcept nogil

# Remember `v` for all requests that agree with `a` in `parts`. Best effort.
cdef void memory_keep(
    memory_t* m, const asked_t* a, uint16_t parts, verdict_t* v,
    uint64_t epoch, uint64_t expires_ms,
) noexcept nogil
