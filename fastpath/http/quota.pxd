# What exchanges may take together, in all workers: so many at a time, so many bytes a
# second. Verdicts share a quota by its name, which only Python knows.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    QUOTA_BURST_MS = 1000       # of bytes that may be moved at once, after a pause ...
    QUOTA_BURST_LEAST = 65536   # ... and at least so many
    QUOTA_STEP = 16384          # moved by one that need not wait: a record of TLS
    QUOTA_WAIT_MOST_MS = 1000   # then it looks again: limits may have changed

cdef struct quota_t:
    uint32_t refs             # atomic; verdicts, exchanges, and Python's list of names
    uint32_t active           # atomic; exchanges; workers
    uint32_t most             # atomic; of them, 0 = no limit; Python
    uint64_t per_s            # atomic; bytes, 0 = no limit; Python
    uint64_t paid_ns          # atomic; when what was moved will be paid for; workers

# A quota with one reference; NULL = no memory.
cdef quota_t* quota_new() noexcept nogil

# Share it, and let go of it: the last one frees it. Release accepts NULL.
cdef void quota_hold(quota_t* q) noexcept nogil
cdef void quota_release(quota_t* q) noexcept nogil

# Whether nothing but the caller holds it, and all is paid for: to forget it then, and
# make a new one, changes nothing.
cdef bint quota_is_idle(quota_t* q, uint64_t now_ms) noexcept nogil

# Take a place, and give it back. False = all are taken.
cdef bint quota_enter(quota_t* q) noexcept nogil
cdef void quota_leave(quota_t* q) noexcept nogil

# How long to wait before anything is moved, in ms; 0 = not at all, and at most `room`
# bytes may be moved now. `room` is lowered, never raised.
cdef uint64_t quota_wait(
    const quota_t* q, uint64_t now_ms, size_t* room
) noexcept nogil

# So many bytes were moved. May go beyond what quota_wait allowed: later ones wait.
cdef void quota_charge(quota_t* q, uint64_t bytes, uint64_t now_ms) noexcept nogil
