# Carrying bodies: from one transport to another, as far as both go, and no further
# than the body's end. What the target does not take waits; nothing is read meanwhile.
from fastpath.base.spill cimport mover_t, spill_t
from fastpath.http.state cimport body_t, pending_t
from fastpath.http1.framing cimport head_t
from fastpath.tls.transport cimport transport_t

cdef enum CARRY:
    CARRY_WAIT            # until the source has bytes or the target room
    CARRY_MORE            # had its turn, would go on
    CARRY_DONE            # the body has ended and all of it was taken
    CARRY_SOURCE          # the source failed or ended too early: mover.error, 0 = end
    CARRY_TARGET          # the target failed: mover.error
    CARRY_FAULT           # the framing is wrong
    CARRY_NO_MEMORY

# ---- Bytes that wait.

# Send bytes behind those that wait; keep what is not taken. 0, or -errno of the target,
# or -ENOMEM.
cdef int pending_send(
    mover_t* m, pending_t* p, transport_t* t, const char* bytes, size_t size
) noexcept nogil

# Send what waits. 1 = nothing waits any more, 0 = the target is full, or -errno.
cdef int pending_flush(mover_t* m, pending_t* p, transport_t* t) noexcept nogil
cdef void pending_drop(mover_t* m, pending_t* p) noexcept nogil

# ---- Bodies.

cdef void body_begin(body_t* b, const head_t* h) noexcept nogil

# How many of `size` bytes belong to the body; -1 = its framing is wrong.
cdef ssize_t body_take(body_t* b, const char* bytes, size_t size) noexcept nogil

# Send `size` bytes that body_take has not seen yet; without their framing, if the body
# is one to unchunk. Return how many belong to it, or -1 (framing), or -errno - 1 of the
# target.
cdef ssize_t body_send(
    mover_t* m, body_t* b, pending_t* p, transport_t* t, const char* bytes,
    size_t size,
) noexcept nogil

# Carry on. Bytes behind the end of the body go to `surplus`, which must be NULL before.
cdef CARRY body_carry(
    mover_t* m, body_t* b, transport_t* source, transport_t* target, pending_t* p,
    spill_t** surplus,
) noexcept nogil

# Carry on by way of `kept`, where the bytes stay: what fits can be sent a second time.
# CARRY_MORE: it is full.
cdef CARRY body_hold(
    mover_t* m, body_t* b, transport_t* source, transport_t* target, pending_t* p,
    spill_t* kept,
) noexcept nogil

# Carry everything, without an end but the source's: then ours is shut towards the
# target. For tunnels; `b` counts, and is done when the end was passed on.
cdef CARRY tunnel_carry(
    mover_t* m, body_t* b, transport_t* source, transport_t* target, pending_t* p
) noexcept nogil
