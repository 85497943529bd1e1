# Limits on live relays and on new ones per second, for a whole vip and per source.
# All workers share them: they are met once a connection, never while bytes move.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SKETCH_ROWS = 2
    SKETCH_WIDTH = 65536  # counters a row; 1.5 MiB for a vip that limits by source

# Two rows of counters that sources are hashed into; the smaller counts. A source
# shares its counter with another one only if they meet in both rows, and then it is
# limited too early, never too late. Memory is bounded, whatever connects.
cdef struct sketch_t:
    uint32_t live[SKETCH_ROWS][SKETCH_WIDTH]     # atomic; all workers
    uint64_t recent[SKETCH_ROWS][SKETCH_WIDTH]   # atomic; second << 32 | count

# One more in the second `now_s`, or the last one seen, if that is later. Return how
# many there are now in it.
cdef uint32_t window_add(uint64_t* window, uint32_t now_s) noexcept nogil

# One more live relay of the source. Return how many there are now.
cdef uint32_t sketch_enter(sketch_t* s, uint64_t source) noexcept nogil
cdef void sketch_leave(sketch_t* s, uint64_t source) noexcept nogil

# One more new relay of the source. Return how many there are in this second.
cdef uint32_t sketch_recent(
    sketch_t* s, uint64_t source, uint32_t now_s
) noexcept nogil
