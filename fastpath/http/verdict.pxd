# What Python decided about a request, and each worker's memory of it.
#
# A verdict is compiled once (see verdict_block.pyx) and never changes. The memories and
# exchanges that have it share it. A memory belongs to one worker; all memories of an
# engine draw on one budget.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp
from fastpath.base.addr cimport addr_t
from fastpath.base.linux.atomic cimport acquire_u64
from fastpath.http.key cimport KEY_BYTES_MOST, asked_t, mask_t, secret_t
from fastpath.http.location cimport filter_t
from fastpath.http.quota cimport quota_t
from fastpath.http1.compose cimport edits_t, text_t

cdef enum:
    MEMORY_WAYS = 8          # entries a key may stand in: no chain grows under a flood
    MASKS_MOST = 16          # ways of naming parts that one vip may use at a time
    TAGS_MOST = 16384        # slots of tags; 0 = no tag

cdef struct verdict_t:
    uint32_t  refs           # atomic
    uint32_t  kept           # atomic; entries of memories that have it
    uint32_t  size           # bytes of all this
    uint8_t   is_reply
    uint8_t   close          # the connection after a reply
    uint8_t   replay
    uint16_t  ask_on         # status; 0 = none
    uint16_t  status         # of a reply
    uint32_t  upstream       # slot ...
    uint64_t  stamp          # ... and the one that was meant
    addr_t    address        # to dial instead of its pool; family 0 = none
    quota_t*  quota          # held; NULL = none
    edits_t   edits          # of the request; their text is `bytes`
    filter_t  filter         # edits of the response
    text_t    head           # of a reply: status line and headers
    text_t    body
    char      bytes[1]       # text, and lists of edits behind it

cdef inline const char* verdict_text(const verdict_t* v, text_t t) noexcept nogil:
    return v.bytes + t.at

# Share a verdict, and let go of it: the last one frees it. NULL is accepted.
cdef void verdict_hold(verdict_t* v) noexcept nogil
cdef void verdict_release(verdict_t* v) noexcept nogil

# Whether two verdicts send a request the same way, with the same headers.
cdef inline bint verdict_equals(
    const verdict_t* a, const verdict_t* b
) noexcept nogil:
    if a == b:
        return True
    if a.is_reply or b.is_reply or a.size != b.size:
        return False
    # Lists of edits stand behind the text, and name its parts by place.
    return (
        a.upstream == b.upstream
        and a.stamp == b.stamp
        and memcmp(&a.address, &b.address, sizeof(addr_t)) == 0
        and memcmp(a.bytes, b.bytes, a.size - (a.bytes - <const char*>a)) == 0
    )

# ---- What has been withdrawn. Moments count the calls of Engine.forget.

cdef struct epochs_t:
    uint64_t  all            # atomic, Python's; verdicts of an earlier moment are void
    uint64_t  tags[TAGS_MOST]  # atomic, Python's; likewise, those with this tag

cdef inline bint epochs_allow(
    const epochs_t* e, uint64_t moment, uint32_t tag
) noexcept nogil:
    return moment >= acquire_u64(&e.all) and moment >= acquire_u64(&e.tags[tag])

# ---- How much may be remembered, over all workers.

cdef struct budget_t:
    uint64_t  most           # bytes
    uint64_t  share          # of one worker, when all have much to remember
    uint64_t  used           # atomic; all workers write
    uint32_t  wanted         # atomic; a worker found no room

# ---- Memories.

cdef struct remembered_t:
    uint64_t    hash
    uint64_t    moment       # when Python answered
    uint64_t    expires_ms
    verdict_t*  verdict      # held
    uint64_t    label        # for records of exchanges; 0 = none
    uint32_t    tag
    uint32_t    size         # of key, as key_write gave it
    char        key[1]

# Ways of naming parts that are in use for one vip. Each is one look-up.
cdef struct masks_t:
    uint64_t moment          # of the first; if withdrawn, the vip may name other parts
    uint32_t count
    uint32_t next            # the one to give way, if all places are taken
    mask_t   list[MASKS_MOST]

cdef struct memory_t:
    budget_t*        budget    # borrowed
    const epochs_t*  epochs    # borrowed
    remembered_t**   ways      # owned; NULL until something is remembered
    masks_t**        masks     # owned, and each; by slot of the vip
    uint32_t         mask_room
    uint32_t         sets      # a power of two, of MEMORY_WAYS each
    uint32_t         hand      # the set that is swept next
    secret_t         secret
    uint64_t         bytes     # of the budget: ways, entries
    uint64_t         count     # entries
    uint64_t         evicted   # entries that made room before their time was over
    uint64_t         unkept    # answers that were not remembered for lack of room
    char             key[KEY_BYTES_MOST]

# Share out `most` bytes among `workers` memories.
cdef void budget_init(budget_t* b, uint64_t most, uint32_t workers) noexcept nogil

cdef void memory_init(
    memory_t* m, budget_t* budget, const epochs_t* epochs
) noexcept nogil
cdef void memory_fini(memory_t* m) noexcept nogil

# The verdict that is remembered for a request, borrowed until the next call; NULL =
# none. What was withdrawn is not found. `label` gets that of the answer.
cdef verdict_t* memory_find(
    memory_t* m, const asked_t* a, uint64_t now_ms, uint64_t* label
) noexcept nogil

# Remember `v`, as answered at `moment`, for all requests that agree with `a` in `mask`.
# Best effort.
cdef void memory_keep(
    memory_t* m, const asked_t* a, mask_t mask, verdict_t* v, uint32_t tag,
    uint64_t label, uint64_t moment, uint64_t expires_ms, uint64_t now_ms,
) noexcept nogil
