# A coarse timer wheel for deadlines of seconds to hours.
#
# No timer is re-armed when bytes move: a relay's timer fires, looks at when the relay
# was last active, and is armed anew. Time is passed in, never read.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    WHEEL_TICK_MS = 64    # no idle timeout needs to be more exact than this
    WHEEL_SLOTS = 1024    # one turn is 65 s; later deadlines stay for another turn
    WHEEL_WORDS = 16      # WHEEL_SLOTS / 64

cdef struct timer_t:
    timer_t*  prev           # borrowed; NULL = not armed
    timer_t*  next           # borrowed
    uint64_t  deadline_ms

cdef struct wheel_t:
    timer_t   slots[WHEEL_SLOTS]           # heads of circular lists
    uint64_t  filled[WHEEL_WORDS]     # a bit a slot: may hold timers
    timer_t   due                          # head: expired, not yet popped
    uint64_t  tick                         # last one looked at

# `w` must not move in memory afterwards: the lists point into it.
cdef void wheel_init(wheel_t* w, uint64_t now_ms) noexcept nogil

# Arm `t`, armed before or not, to be popped at `deadline_ms` or up to a tick later.
cdef void timer_arm(wheel_t* w, timer_t* t, uint64_t deadline_ms) noexcept nogil

# Accepts a timer that is not armed, if its memory was zeroed.
cdef void timer_disarm(timer_t* t) noexcept nogil

# Return a timer whose deadline has passed, no longer armed, or NULL: call until NULL.
cdef timer_t* wheel_pop(wheel_t* w, uint64_t now_ms) noexcept nogil

# Milliseconds until wheel_pop is worth calling; -1 = no timer at all.
cdef int wheel_wait_ms(const wheel_t* w, uint64_t now_ms) noexcept nogil
