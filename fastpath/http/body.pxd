# Moving bodies: from one transport to another, as far as both go, and no further than
# the body's end. What the target does not take waits; nothing is read meanwhile.
from fastpath.base.spill cimport mover_t, spill_t
from fastpath.http.state cimport STEP, body_t, pending_t
from fastpath.http1.framing cimport head_t
from fastpath.tls.transport cimport transport_t

# ---- Bytes that wait.

# Send bytes behind those that wait; keep what is not taken. 0, or -errno of the target,
# or -ENOMEM.
cdef int pending_send(
    mover_t* m, pending_t* p, transport_t* t, const char* bytes, size_t size
) noexcept nogil

# Send what waits. 1 = nothing waits any more, 0 = the target is full, or -errno.
cdef int pending_flush(mover_t* m, pending_t* p, transport_t* t) noexcept nogil
cdef void pending_drop(mover_t* m, pending_t* p) noexcept nogil

# Fill the scratch buffer from `t`. Return its bytes, 0 = ended, or -errno. What was
# read before an error or the end is returned first; both are met again next time.
cdef ssize_t read_some(mover_t* m, transport_t* t) noexcept nogil

# ---- Bodies. The one that moves them says in body_t.is_request where they come from.

cdef void body_begin(body_t* b, const head_t* h, bint is_request) noexcept nogil

# How many of `size` bytes belong to the body; -1 = its framing is wrong.
cdef ssize_t body_take(body_t* b, const char* bytes, size_t size) noexcept nogil

# Send `size` bytes that body_take has not seen yet; without their framing, if the body
# is one to unchunk. Return how many belong to it, or -1 (framing), or -errno - 1 of the
# target.
cdef ssize_t body_send(
    mover_t* m, body_t* b, pending_t* p, transport_t* t, const char* bytes,
    size_t size,
) noexcept nogil

# Move on. Bytes behind the end of the body go to `surplus`, which must be NULL before.
# STEP_WAIT, STEP_TURN; STEP_DONE: it has ended and all of it was taken; STEP_FAULT;
# STEP_NO_MEMORY; or which side's socket failed, or ended too early.
cdef STEP body_move(
    mover_t* m, body_t* b, transport_t* source, transport_t* target, pending_t* p,
    spill_t** surplus,
) noexcept nogil

# Move on by way of `kept`, where the bytes stay: what fits can be sent a second time.
# STEP_ON: it is full, body_move goes on.
cdef STEP body_hold(
    mover_t* m, body_t* b, transport_t* source, transport_t* target, pending_t* p,
    spill_t* kept,
) noexcept nogil
