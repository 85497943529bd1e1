# Connecting to backends, for every protocol: pick one, connect, on failure pick again.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.base.addr cimport addr_t
from fastpath.base.context cimport context_t
from fastpath.table.registry cimport backend_state_t
from fastpath.table.table cimport backend_t, pool_t

cdef enum:
    TRIED_MOST = 3          # MAX_TRIES of spec.py, less one: no pick follows the last
    WHY_BYTES = 256         # of the text of a failure

# What the dials of one client remember from each to the next. Zeroed to begin with.
cdef struct dial_t:
    uint32_t  began_us            # of the one under way; the low half of the clock
    uint32_t  tried[TRIED_MOST]   # slots of backends that failed
    uint8_t   tries               # dials that failed

# One dial: what it is to be, and what came of it.
cdef struct attempt_t:
    uint64_t    hash              # of the client, for a ring
    uint64_t    pin               # of its address, for affinity
    const addr_t* source          # to dial from, where that can be; NULL = our own
    uint64_t*   retries           # counter of dials behind a failed one; borrowed
    bint        lazy_ack          # the ACK of the handshake travels with first bytes
    bint        kept_alive        # probes by TCP, and no Nagle
    char*       why               # WHY_BYTES for the text of a failure; NULL = none
    int         fd                # out: the caller's
    backend_t*  backend           # out: borrowed from the table; counted as active

cdef enum DIAL:
    DIAL_WAIT             # the poller tells when it stands or has failed
    DIAL_LOCAL            # on the same host: the handshake has probably ended
    DIAL_NO_BACKEND       # none is usable that did not fail, or tries are used up
    DIAL_NO_DESCRIPTORS   # or no memory: another backend would not help

# Start to connect to a backend of `pool` that was not tried. Those that fail at once
# are counted, and the next is tried. With DIAL_WAIT and DIAL_LOCAL the caller owns the
# fd and the place in backend.active, and arms a timer of pool.connect_ms.
cdef DIAL dialler_next(
    context_t* c, dial_t* d, const pool_t* pool, attempt_t* a
) noexcept nogil

# Connect to a.backend, which need not be of a table, with a socket of its own. Return
# 0, or -errno: then nothing is left of it.
cdef int dialler_connect(dial_t* d, attempt_t* a) noexcept nogil

# A dial to `backend` failed, or succeeded: count it, and tell Python what that
# changed. `pool` may be NULL.
cdef void dialler_failed(
    context_t* c, dial_t* d, const pool_t* pool, backend_state_t* backend
) noexcept nogil
cdef void dialler_succeeded(
    context_t* c, const dial_t* d, backend_state_t* backend
) noexcept nogil

# Whether an error of socket(2), connect(2) or send(2) says that we are out of
# descriptors or memory.
cdef bint dialler_exhausted(int error) noexcept nogil

# Write into `why` what failed with `b`: `what`, then the text of `error`, unless 0.
cdef void dialler_say(
    char* why, const backend_t* b, const char* what, int error
) noexcept nogil

# The backend of `pool` that has this state, or NULL if the pool names it no more.
cdef backend_t* dialler_backend(
    const pool_t* pool, const backend_state_t* backend
) noexcept nogil
