"""The few contenders that score well at a slot, found without scoring all of them.

The 256 slots of a block share all bits of a contender's draw but the upper 8, and these
are 0 to 255, each at one slot. So the slots where a contender draws best need no
search: they are where its upper bits are 0, then 1, and so on. Each contender enters
the lists of the slots where it scores below a common limit. 1,000 contenders give about
10 entries per list, a hundredth of the work of scoring each at each slot. The result is
the same, because a contender that is not on a list scores above the limit there. Where
a list is too short, all contenders are scored.

The limit decides how much work there is, never what comes out. Hence it may be computed
in floating point.
"""

from libc.errno cimport ENOMEM
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memset

from fastpath.ring.rendezvous cimport (
    BLOCK_BITS,
    BLOCK_SLOTS,
    LINE_ERROR,
    NO_SCORE,
    block_draw,
    block_seed_of,
    choose_next,
    contender_score,
    contender_score_of,
    high_half,
    slot_draw,
)

cdef extern from * nogil:
    int clz32 "__builtin_clz"(unsigned int bits)
    int clz64 "__builtin_clzll"(unsigned long long bits)

cdef enum:
    ROW = 32            # a list with so many entries is void: 1 in 10**7 of 10 expected
    REACH_BITS = 20     # of a draw; with fewer, lists of light contenders are too long
    PLACE_BITS = 16     # the lower half of a key
    PLACES = (1 << PLACE_BITS) - 1
    LOW_BITS = 64 - BLOCK_BITS  # of a draw, the same in all slots of a block


# --- the limit ---


# Return how many entries a list should have: as many as `n` has bits. More entries cost
# time at every slot. With fewer, more lists are too short, which costs a score of all
# `n`: of 10 expected, 1 list in 2,000 has less than two.
cdef inline uint32_t length_for(uint32_t n) noexcept nogil:
    return 32 - clz32(n)


# Return the score that `length` contenders are expected to stay below at a slot. Score
# `s` is below `limit` with a chance of 1 - 2**-(weight * limit / 2**57); the straight
# line through it, up to 1, is near enough.
cdef uint64_t limit_for(
    const contender_t* all, uint32_t n, uint32_t length
) noexcept nogil:
    cdef double unit = <double>(<uint64_t>1 << 57) / 0.6931  # of one weight and chance
    cdef double limit = 0
    cdef double weight          # of those with a chance below 1
    cdef uint32_t certain = 0   # the others
    cdef uint32_t place
    cdef uint32_t _round

    if n <= length:
        return NO_SCORE
    # A round that finds more certain ones raises the limit. They never add up to
    # `length`, so a round for each is enough.
    for _round in range(length):
        weight = 0
        certain = 0
        for place in range(n):
            if all[place].weight * limit >= unit:
                certain += 1
            else:
                weight += all[place].weight
        limit = unit * (length - <double>certain) / weight
    return <uint64_t>min(limit, <double>NO_SCORE)


# Return a draw beyond which `c` scores more than `limit`: the least such one, but for
# lower bits that are not worth the search. Scores never fall as draws rise.
cdef uint64_t reach_of(const contender_t* c, uint64_t limit) noexcept nogil:
    cdef uint64_t reach = 0
    cdef uint64_t bit = <uint64_t>1 << 63
    cdef int _i

    for _i in range(REACH_BITS):
        if contender_score_of(c, reach | bit) <= limit:
            reach |= bit
        bit >>= 1
    return reach | (~<uint64_t>0 >> REACH_BITS)


# Return by how much to shift bounds, in 64ths of a score, to leave 16 bits of them.
cdef int shift_for(uint64_t limit) noexcept nogil:
    cdef int bits = 64 - clz64(limit + LINE_ERROR) + 6

    return max(0, min(bits, 64) - PLACE_BITS)


cdef int shortlist_init(
    shortlist_t* l, const contender_t* all, uint32_t n, uint32_t size
) noexcept nogil:
    cdef uint32_t length = length_for(n)
    cdef uint32_t place

    memset(l, 0, sizeof(shortlist_t))
    l.all = all
    l.n = n
    l.limit = limit_for(all, n, length)
    l.shift = shift_for(l.limit)
    l.room = size * (length + 1)
    l.reach = <uint64_t*>malloc(n * sizeof(uint64_t))
    l.draws = <uint64_t*>malloc(n * sizeof(uint64_t))
    l.rows = <uint32_t*>malloc(BLOCK_SLOTS * ROW * sizeof(uint32_t))
    l.counts = <uint32_t*>malloc(BLOCK_SLOTS * sizeof(uint32_t))
    l.starts = <uint32_t*>malloc((size + 1) * sizeof(uint32_t))
    l.places = <uint16_t*>malloc(l.room * sizeof(uint16_t))
    if (
        l.reach == NULL or l.draws == NULL or l.rows == NULL or l.counts == NULL
        or l.starts == NULL or l.places == NULL
    ):
        shortlist_fini(l)
        return -ENOMEM
    l.starts[0] = 0
    for place in range(n):
        # Weights are mostly equal, and then neighbours are.
        if place > 0 and all[place].weight == all[place - 1].weight:
            l.reach[place] = l.reach[place - 1]
        else:
            l.reach[place] = reach_of(&all[place], l.limit)
    return 0


cdef void shortlist_fini(shortlist_t* l) noexcept nogil:
    free(l.reach)
    free(l.draws)
    free(l.rows)
    free(l.counts)
    free(l.starts)
    free(l.places)
    memset(l, 0, sizeof(shortlist_t))


# --- the lists of a block ---


# The inverse of an odd number modulo 256. Newton's iteration doubles the bits that are
# right, and an odd number is its own inverse in the lower three.
cdef inline uint8_t inverse_of(uint8_t odd) noexcept nogil:
    cdef uint8_t inverse = odd * <uint8_t>(2 - odd * odd)

    return inverse * <uint8_t>(2 - odd * inverse)


# The logarithm is convex, so a straight line below it bounds the score. A key is the
# upper bits of that bound above the place. Small, so that a block's rows stay in the
# first cache. A bound far beyond the limit loses bits: too low is still a bound.
cdef inline uint32_t key_of(
    uint64_t x, const contender_t* c, uint32_t place, int shift
) noexcept nogil:
    return <uint32_t>(high_half(x, c.step) >> shift) << PLACE_BITS | place


# Append `key` to the row of a slot, if `count` is 1; to be overwritten, if it is 0.
cdef inline void enter(
    uint32_t* rows, uint32_t* counts, uint8_t at, uint32_t key, uint32_t count
) noexcept nogil:
    rows[at * ROW + counts[at] % ROW] = key
    counts[at] += count


# Fill the rows of the block that begins at `slot`.
cdef void list_block(shortlist_t* l, uint32_t slot) noexcept nogil:
    cdef uint64_t block_seed = block_seed_of(slot)
    cdef uint64_t low_mask = (<uint64_t>1 << LOW_BITS) - 1
    cdef const contender_t* c
    cdef uint32_t* rows = l.rows
    cdef uint32_t* counts = l.counts
    cdef int shift = l.shift
    cdef uint64_t x, low, upper, sure
    cdef uint32_t place
    cdef uint8_t stride, at

    memset(l.counts, 0, BLOCK_SLOTS * sizeof(uint32_t))
    for place in range(l.n):
        c = &l.all[place]
        x = block_draw(block_seed, c.seed)
        l.draws[place] = x
        low = x & low_mask
        # The slot where the upper bits are 0, and from there to where they are 1.
        stride = inverse_of(<uint8_t>x | 1)
        at = <uint8_t>(0 - (x >> LOW_BITS)) * stride
        sure = l.reach[place] >> LOW_BITS
        for upper in range(sure):
            x = (upper << LOW_BITS) | low
            enter(rows, counts, at, key_of(x, c, place, shift), 1)
            at += stride
        # No branch: half of the guesses would be wrong.
        x = (sure << LOW_BITS) | low
        enter(rows, counts, at, key_of(x, c, place, shift), x <= l.reach[place])


# Append the row to the lists. Return 0 or -ENOMEM.
cdef int keep_row(
    shortlist_t* l, uint32_t slot, const uint32_t* row, uint32_t count
) noexcept nogil:
    cdef uint32_t start = l.starts[slot]
    cdef uint32_t i
    cdef void* more

    if start + count > l.room:
        more = realloc(l.places, (l.room + l.room // 4 + ROW) * sizeof(uint16_t))
        if more == NULL:
            return -ENOMEM
        l.places = <uint16_t*>more
        l.room += l.room // 4 + ROW
    for i in range(count):
        l.places[start + i] = row[i] & PLACES
    l.starts[slot + 1] = start + count
    return 0


# --- choosing ---


cdef inline void choose(
    const shortlist_t* l, uint32_t slot, uint32_t key, choice_t* choice
) noexcept nogil:
    choice.place = key & PLACES
    choice.score = contender_score_of(
        &l.all[choice.place], slot_draw(l.draws[choice.place], slot)
    )


# No branch in the loop: each new best would be a wrong guess, 20 times the price of a
# comparison.
cdef int shortlist_two(shortlist_t* l, uint32_t slot, choice_t* two) noexcept nogil:
    cdef uint32_t best = ~<uint32_t>0
    cdef uint32_t second = ~<uint32_t>0
    cdef uint32_t third = ~<uint32_t>0
    cdef uint32_t at = slot % BLOCK_SLOTS
    cdef const uint32_t* row = &l.rows[at * ROW]
    cdef uint64_t bound
    cdef uint32_t key, loser
    cdef uint32_t i, count
    cdef int result

    if at == 0:
        list_block(l, slot)
    # An entry after the last one of a full row has overwritten another.
    count = l.counts[at] if l.counts[at] < ROW else 0
    result = keep_row(l, slot, row, count)
    if result < 0:
        return result
    for i in range(count):
        key = row[i]
        loser = max(best, key)
        best = min(best, key)
        key = max(second, loser)
        second = min(second, loser)
        third = min(third, key)
    if count >= 2:
        choose(l, slot, best, &two[0])
        choose(l, slot, second, &two[1])
        # No other entry, and nothing that is not on the list, scores less than that.
        bound = <uint64_t>(third >> PLACE_BITS) << l.shift >> 6
        bound = min(bound, l.limit + LINE_ERROR + 1)
        if two[0].score < two[1].score and two[1].score + LINE_ERROR < bound:
            return 0
    # Too close for bounds to tell, or too few.
    two[0].score = 0
    two[0].place = -1
    shortlist_next(l, slot, &two[0])
    two[1] = two[0]
    shortlist_next(l, slot, &two[1])
    return 0


cdef void shortlist_next(
    const shortlist_t* l, uint32_t slot, choice_t* choice
) noexcept nogil:
    cdef choice_t after = choice[0]
    cdef uint64_t score
    cdef uint32_t i
    cdef int32_t place

    choice.score = NO_SCORE
    for i in range(l.starts[slot], l.starts[slot + 1]):
        place = l.places[i]
        score = contender_score(&l.all[place], slot)
        if score < after.score or (score == after.score and place <= after.place):
            continue
        if score < choice.score or (score == choice.score and place < choice.place):
            choice.score = score
            choice.place = place
    # A contender that is not on the list scores more than the limit.
    if choice.score > l.limit and l.starts[slot + 1] - l.starts[slot] < l.n:
        choice[0] = after
        choose_next(l.all, l.n, slot, choice)
