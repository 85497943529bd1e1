# A client's connection: its memory, its deadlines, its end.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_t
from fastpath.base.mailbox cimport mailbox_t
from fastpath.base.stats cimport DROP
from fastpath.http.state cimport STEP, conn_t, conns_t, exchange_t, parked_t
from fastpath.http.verdict cimport budget_t, epochs_t

# `questions` and what follows are shared by the workers of an engine; `tls_bytes` are
# those of OpenSSL's buffers in this one. Return 0 or -ENOMEM.
cdef int conns_init(
    conns_t* w, context_t* c, mailbox_t* questions, const epochs_t* epochs,
    budget_t* budget, parked_t* parked, uint64_t tls_bytes,
) noexcept nogil

# Drops what is still live.
cdef void conns_fini(conns_t* w) noexcept nogil

# Drop all clients, as Engine.reset does.
cdef void conns_reset(conns_t* w) noexcept nogil

# The vip in `slot` stops listening: idle clients go, the others after their exchange.
cdef void conns_retire(conns_t* w, uint32_t slot) noexcept nogil

# A connection for a new client: owns `fd` from now on. NULL = it was refused.
cdef conn_t* conn_new(
    conns_t* w, int fd, uint32_t vip, const addr_t* client
) noexcept nogil

# The one way out: close both sides, count the reason, free the slot.
cdef void conn_drop(conns_t* w, conn_t* conn, DROP reason) noexcept nogil

# A deadline for this state, 0 = none. The timer is moved only to fire earlier.
cdef void conn_until(conns_t* w, conn_t* conn, uint32_t ms) noexcept nogil

# ---- Steps.

# TLS with the client, before anything else.
cdef STEP conn_secure(conns_t* w, conn_t* conn) noexcept nogil

# The last response was sent: close without taking it back. STEP_CLOSED or STEP_LINGER.
# `whole`: the client has sent all of its request.
cdef STEP conn_end(conns_t* w, conn_t* conn, bint whole) noexcept nogil

# Read and drop what the client sends until its FIN, or until that is too much.
cdef STEP conn_linger(conns_t* w, conn_t* conn) noexcept nogil

# Nothing of its exchange can go on now: set the deadline for that, if there is one.
cdef void conn_stall(conns_t* w, conn_t* conn) noexcept nogil

# ---- What the client sent and no exchange has taken yet.

cdef void input_drop(conns_t* w, conn_t* conn) noexcept nogil

# The first `size` bytes of the input are dealt with.
cdef void input_take(conns_t* w, conn_t* conn, uint32_t size) noexcept nogil

# ---- The exchange that is in work.

# Begin one; NULL = no memory.
cdef exchange_t* exchange_new(conns_t* w, conn_t* conn) noexcept nogil

# Give back all that it has. With `reset` an upstream connection that it still has is
# reset. NULL is accepted.
cdef void exchange_free(conns_t* w, exchange_t* x, bint reset) noexcept nogil
