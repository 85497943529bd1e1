# The few contenders that score well at a slot, found for 256 slots at once, without
# scoring all contenders at each.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from fastpath.ring.rendezvous cimport choice_t, contender_t

# The list of a slot holds, in no order, all contenders with a score of at most `limit`
# there, and perhaps some with more; or it is empty although there are such.
cdef struct shortlist_t:
    const contender_t* all     # borrowed
    uint32_t  n
    uint64_t  limit            # a score
    uint64_t* reach            # owned; by place, no larger draw scores `limit`
    uint64_t* draws            # owned; by place, what it draws in the block at work
    uint32_t* rows             # owned; a block's lists at work, as keys
    int       shift            # of a bound in a key
    uint32_t* counts           # owned; entries of each row, also those without room
    uint32_t* starts           # owned; by slot, where its list begins; and the end
    uint16_t* places           # owned; all lists, one after another
    uint32_t  room             # entries that `places` can hold

# Prepare lists of `n` (1-16384) contenders for `size` slots. `all` is borrowed until
# `shortlist_fini`. Return 0 or -ENOMEM, `l` then finished.
cdef int shortlist_init(
    shortlist_t* l, const contender_t* all, uint32_t n, uint32_t size
) noexcept nogil

# Free what `l` owns. An already finished one is fine.
cdef void shortlist_fini(shortlist_t* l) noexcept nogil

# Make the list of `slot` and find the best two contenders there, best first; of equal
# scores the lower place wins. Where there is one contender, the second score is
# NO_SCORE. Slots must come in order, from 0, without a gap. Return 0 or -ENOMEM.
cdef int shortlist_two(shortlist_t* l, uint32_t slot, choice_t* two) noexcept nogil

# Replace `choice`, of a `slot` that has its list, by the next worse contender there;
# by NO_SCORE after the last.
cdef void shortlist_next(
    const shortlist_t* l, uint32_t slot, choice_t* choice
) noexcept nogil
