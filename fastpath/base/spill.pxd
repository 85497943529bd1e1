# Buffers of one worker: the scratch buffer that every read goes through, spills for
# what a destination did not take, and the pipes that streams are spliced through.
from libc.stdint cimport uint8_t, uint32_t
from fastpath.base.pipe cimport pipe_list_t
from fastpath.base.stats cimport stats_t

cdef enum:
    SCRATCH_BYTES = 65536   # fits in L2, and a full skb train of loopback
    TURN_BYTES = 1048576    # moved at most before others have their turn
    SPILLS_KEPT = 16        # unused ones that a worker keeps

# Bytes that the destination did not take.
cdef struct spill_t:
    spill_t*  next          # borrowed; in a list of them, or the free list
    uint32_t  first
    uint32_t  used
    uint32_t  room          # SCRATCH_BYTES, unless it has grown
    char      bytes[SCRATCH_BYTES]

# What everything that moves bytes in one worker shares.
cdef struct mover_t:
    char*        scratch    # owned
    spill_t*     spills     # owned list of unused ones
    uint32_t     spill_count
    uint8_t      splice     # allowed at all
    size_t       turn       # TURN_BYTES, or less while one has to keep to a rate
    int          error      # errno of the last failure
    pipe_list_t  pipes
    stats_t*     stats      # borrowed

# Return 0 or -ENOMEM.
cdef int mover_init(
    mover_t* m, stats_t* stats, size_t pipe_bytes, int pipe_limit, bint splice
) noexcept nogil
cdef void mover_fini(mover_t* m) noexcept nogil

# Lend an empty buffer, NULL = no memory; take it back.
cdef spill_t* spill_get(mover_t* m) noexcept nogil
cdef void spill_put(mover_t* m, spill_t* s) noexcept nogil

# A buffer of `room` bytes, more than SCRATCH_BYTES, in place of `s`: with its bytes,
# and freed when it is taken back. NULL = no memory; `s` is as it was then.
cdef spill_t* spill_grow(mover_t* m, spill_t* s, uint32_t room) noexcept nogil

# Copy `size` bytes, at most SCRATCH_BYTES, into a spill; NULL = no memory.
cdef spill_t* spill_of(mover_t* m, const char* bytes, size_t size) noexcept nogil
