# A client's connection: its memory, its deadlines, replies of our own, its end.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_t
from fastpath.base.mailbox cimport mailbox_t
from fastpath.base.stats cimport DROP
from fastpath.http.state cimport conns_t, exchange_t
from fastpath.table.table cimport http_t, table_vip, vip_t

# What a step of an exchange did.
cdef enum STEP:
    STEP_WAIT               # nothing more can be done now
    STEP_ON                 # there may be more to do at once
    STEP_TURN               # its turn is over, it would go on
    STEP_GONE               # the exchange is no more

# `questions` and `epoch` are shared with Python. Return 0 or -ENOMEM.
cdef int http_init(
    conns_t* w, context_t* c, mailbox_t* questions, uint64_t* epoch
) noexcept nogil

# Drops what is still live.
cdef void http_fini(conns_t* w) noexcept nogil

# Drop all clients, as Engine.reset does.
cdef void http_reset(conns_t* w) noexcept nogil

# A new table: make room, before it is used. False = no memory.
cdef bint http_take_table(conns_t* w, uint32_t slots) noexcept nogil

# After it was taken: close what nobody needs any more.
cdef void http_sweep(conns_t* w) noexcept nogil

# The vip in `slot` stops listening: idle clients go, the others after their exchange.
cdef void http_retire(conns_t* w, uint32_t slot) noexcept nogil

cdef inline vip_t* vip_of(conns_t* w, const exchange_t* x) noexcept nogil:
    return table_vip(w.c, x.vip.slot)

# The settings of the vip, or NULL if it is gone or speaks no HTTP any more.
cdef inline http_t* http_of(conns_t* w, const exchange_t* x) noexcept nogil:
    cdef vip_t* v = vip_of(w, x)
    return v.http if v != NULL else NULL

# The exchange of a new client, whose fd is its now; NULL = it was refused.
cdef exchange_t* exchange_open(
    conns_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil

# The one way out: close both sides, count the reason, free the slot.
cdef void exchange_drop(conns_t* w, exchange_t* x, DROP reason) noexcept nogil

# Forget what belongs to one exchange, not to the connection.
cdef void exchange_clear(conns_t* w, exchange_t* x) noexcept nogil

# Wait for the next request.
cdef void exchange_idle(conns_t* w, exchange_t* x) noexcept nogil

# A deadline for this state, 0 = none. The timer is moved only to fire earlier.
cdef void exchange_until(conns_t* w, exchange_t* x, uint32_t ms) noexcept nogil

# Count an exchange that was answered, or will not be.
cdef void exchange_count(conns_t* w, exchange_t* x) noexcept nogil

# The last response was sent: close, without taking it back.
cdef STEP exchange_end(conns_t* w, exchange_t* x) noexcept nogil
# Read what nobody wants until the client has seen our end, or has sent too much.
cdef STEP exchange_linger(conns_t* w, exchange_t* x) noexcept nogil
# Nothing of an exchange can go on now.
cdef void exchange_stall(conns_t* w, exchange_t* x) noexcept nogil

# ---- What the client sent and nobody took yet.

cdef inline char* input_bytes(const exchange_t* x) noexcept nogil:
    return x.input.bytes + x.input.first

cdef void input_drop(conns_t* w, exchange_t* x) noexcept nogil

# The first `size` bytes of the input are dealt with.
cdef void input_take(conns_t* w, exchange_t* x, uint32_t size) noexcept nogil

# ---- Replies of our own. What the client still sends of its request is not wanted.

cdef STEP exchange_say(
    conns_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil

# The reply of x.verdict.
cdef STEP exchange_reply(conns_t* w, exchange_t* x) noexcept nogil

# The upstream failed before it answered; the vip may want another status for that.
cdef STEP exchange_fail(
    conns_t* w, exchange_t* x, uint16_t status, const char* text
) noexcept nogil
