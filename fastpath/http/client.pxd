# A client's connection: its memory, its deadlines, replies of our own, its end.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_t
from fastpath.base.mailbox cimport mailbox_t
from fastpath.base.stats cimport DROP
from fastpath.http.verdict cimport budget_t, epochs_t
from fastpath.http.web cimport exchange_t, web_t
from fastpath.table.table cimport http_t, table_vip, vip_t

# What a step of an exchange did.
cdef enum STEP:
    STEP_WAIT               # nothing more can be done now
    STEP_ON                 # there may be more to do at once
    STEP_TURN               # its turn is over, it would go on
    STEP_GONE               # the exchange is no more

# All three are shared by the workers of an engine. Return 0 or -ENOMEM.
cdef int web_init(
    web_t* w, context_t* c, mailbox_t* questions, const epochs_t* epochs,
    budget_t* budget,
) noexcept nogil

# Drops what is still live.
cdef void web_fini(web_t* w) noexcept nogil

# Drop all clients, as Engine.reset does.
cdef void web_reset(web_t* w) noexcept nogil

# A new table: make room, before it is used. False = no memory.
cdef bint web_take_table(web_t* w, uint32_t slots) noexcept nogil

# After it was taken: close what nobody needs any more.
cdef void web_sweep(web_t* w) noexcept nogil

# The vip in `slot` stops listening: idle clients go, the others after their exchange.
cdef void web_retire(web_t* w, uint32_t slot) noexcept nogil

cdef inline vip_t* vip_of(web_t* w, const exchange_t* x) noexcept nogil:
    return table_vip(w.c, x.vip.slot)

# The settings of the vip, or NULL if it is gone or speaks no HTTP any more.
cdef inline http_t* http_of(web_t* w, const exchange_t* x) noexcept nogil:
    cdef vip_t* v = vip_of(w, x)
    return v.http if v != NULL else NULL

# The exchange of a new client, whose fd is its now; NULL = it was refused.
cdef exchange_t* exchange_open(
    web_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil

# The one way out: close both sides, count the reason, free the slot.
cdef void exchange_drop(web_t* w, exchange_t* x, DROP reason) noexcept nogil

# Forget what belongs to one exchange, not to the connection.
cdef void exchange_clear(web_t* w, exchange_t* x) noexcept nogil

# Wait for the next request.
cdef void exchange_idle(web_t* w, exchange_t* x) noexcept nogil

# A deadline for this state, 0 = none. The timer is moved only to fire earlier.
cdef void exchange_until(web_t* w, exchange_t* x, uint32_t ms) noexcept nogil

# Count an exchange that was answered, or will not be.
cdef void exchange_count(web_t* w, exchange_t* x) noexcept nogil

# The last response was sent: close, without taking it back.
cdef STEP exchange_end(web_t* w, exchange_t* x) noexcept nogil
# Read what nobody wants until the client has seen our end, or has sent too much.
cdef STEP exchange_linger(web_t* w, exchange_t* x) noexcept nogil
# Nothing of an exchange can go on now.
cdef void exchange_stall(web_t* w, exchange_t* x) noexcept nogil

# ---- What the client sent and nobody took yet.

cdef inline char* input_bytes(const exchange_t* x) noexcept nogil:
    return x.input.bytes + x.input.first

cdef void input_drop(web_t* w, exchange_t* x) noexcept nogil

# The first `size` bytes of the input are dealt with.
cdef void input_take(web_t* w, exchange_t* x, uint32_t size) noexcept nogil

# ---- Replies of our own. What the client still sends of its request is not wanted.

cdef STEP exchange_say(
    web_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil

# The reply of x.verdict.
cdef STEP exchange_reply(web_t* w, exchange_t* x) noexcept nogil

# The upstream failed before it answered; the vip may want another status for that.
cdef STEP exchange_fail(
    web_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil
