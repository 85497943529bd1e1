# Names under which verdicts are withdrawn.
from libc.stdint cimport uint32_t, uint64_t
from fastpath.http.verdict cimport epochs_t

# The clock of an engine's withdrawals, and the tags in use. One thread at a time.
cdef class Tags:
    cdef epochs_t* epochs        # borrowed; workers read
    cdef readonly uint64_t now   # withdrawals so far: moments
    cdef uint64_t lost           # the last one of a tag that had no slot
    cdef object slots            # OrderedDict, tag -> (slot, moment), by last use

    # Void is from now on what was decided under `tag`, or everything.
    cdef forget(self, str tag)
    cdef void forget_all(self) noexcept

    # Whether a decision begun at `moment` counts, if its verdict has this tag ("" =
    # none).
    cdef bint is_current(self, uint64_t moment, str tag)

    # Slot of a tag, 0 for "". If all are taken, the tag used longest ago gives way, and
    # what is remembered under it is void.
    cdef uint32_t slot(self, str tag)
