# One direction of a relay or a tunnel: bytes from a source to a destination.
#
# Small reads are copied through a scratch buffer that all halves of a worker share;
# streams are spliced through a pipe lent for as long as bytes are inside. What the
# destination does not take at once waits in the pipe or in a spill, and nothing more
# is read until it has gone: at most one pipe or one spill per half.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from fastpath.base.end cimport end_t
from fastpath.base.pipe cimport pipe_t
from fastpath.base.spill cimport mover_t, spill_t

cdef enum:
    STREAM_BYTES = 49152    # a read of this size may belong to a stream
    STREAM_READS = 3        # so many of them in a row do
    TRICKLE_BYTES = 16384   # a splice below this size was not worth it
    TRICKLE_READS = 2       # so many of them in a row: back to copying

cdef enum MODE:
    MODE_COPY
    MODE_SPLICE
    MODE_COPY_ONLY          # splice(2) misreports this socket

cdef struct half_t:
    pipe_t*   pipe          # lent; NULL = none
    spill_t*  spill         # owned; NULL = none
    uint64_t  bytes         # given to the destination
    uint8_t   mode          # MODE
    uint8_t   streak        # reads in a row that speak for the other mode
    uint8_t   ended         # the source has sent its FIN
    uint8_t   done          # and so have we
    uint8_t   last          # the other half is done: close(2) will send our FIN

cdef enum MOVE:
    MOVE_WAIT               # until the source has bytes or the destination room
    MOVE_MORE               # had its turn, would go on
    MOVE_DONE               # source ended, all delivered, FIN sent
    MOVE_SOURCE_FAILED      # see mover.error
    MOVE_TARGET_FAILED      # see mover.error; what was read is kept in the spill
    MOVE_NO_MEMORY

# Move what can be moved now, within one turn.
cdef MOVE half_move(mover_t* m, half_t* h, end_t* src, end_t* dst) noexcept nogil

# Copying in two steps. Read to the scratch buffer from `at` on: bytes, 0 = the source
# has ended, or -errno. Then give `size` bytes of it to the destination, which must be
# writable: MOVE_WAIT, MOVE_TARGET_FAILED or MOVE_NO_MEMORY.
cdef ssize_t half_read(mover_t* m, half_t* h, end_t* src, size_t at) noexcept nogil
cdef MOVE half_give(
    mover_t* m, half_t* h, end_t* dst, size_t at, size_t size
) noexcept nogil

# Whether bytes wait in `h` that the destination did not take.
cdef inline bint half_holds(const half_t* h) noexcept nogil:
    return h.spill != NULL or (h.pipe != NULL and h.pipe.used > 0)

# Give back what `h` holds.
cdef void half_release(mover_t* m, half_t* h) noexcept nogil
