# Rendezvous hashing: a contender's score at a slot, an integer, the lower the better.
# Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
# IEEE/ACM Transactions on Networking 6(1), 1998; weights by exponential draws.
from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t

cdef extern from * nogil:
    ctypedef unsigned long long uint128_t "unsigned __int128"
    uint64_t NO_SCORE "(UINT64_C(1) << 63)"  # above every score

cdef enum:
    BLOCK_BITS = 8  # larger blocks gain nothing; smaller ones, less
    BLOCK_SLOTS = 1 << BLOCK_BITS
    # What the bound of a score by `step` may exceed it by: three roundings of the
    # logarithm by one, of which each is 2**9 in the score.
    LINE_ERROR = 1536

# A backend of weight > 0, ready to be scored. Its *place* is its position in an array
# of contenders, sorted by `contender_compare`.
cdef struct contender_t:
    uint64_t seed       # of its id, mixed
    uint64_t step       # 64ths of score per 2**64 of a draw, a lower bound
    uint64_t inverse    # 2**64 / weight
    uint32_t weight
    uint16_t index      # its owner's business

# Where a slot would like to go.
cdef struct choice_t:
    uint64_t score
    int32_t  place      # -1 with score 0 = before the first


# A bijection of 64 bits in which each bit of `x` moves each bit of the result.
# Source: the finaliser of SplitMix64; Steele, Lea and Flood, "Fast splittable
# pseudorandom number generators", OOPSLA 2014 (constants: Stafford's variant 13).
cdef inline uint64_t mix64(uint64_t x) noexcept nogil:
    x = (x ^ (x >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    x = (x ^ (x >> 27)) * <uint64_t>0x94d049bb133111eb
    return x ^ (x >> 31)


cdef inline uint64_t high_half(uint64_t a, uint64_t b) noexcept nogil:
    return <uint64_t>((<uint128_t>a * b) >> 64)


cdef inline uint64_t seed_of(uint64_t what) noexcept nogil:
    # 2**64 / golden ratio: the mixer maps 0 to 0, which would draw 0 everywhere.
    return mix64(what + <uint64_t>0x9e3779b97f4a7c15)


# What `slot` draws for a contender: 64 bits, the lower the better. The slots of a block
# draw without replacement, as it were: their upper 8 bits are 0 to 255, each once, and
# the others are the same in all. Shares scatter a quarter less by that, so that a ring
# has less to correct, and a third fewer slots move needlessly than with independent
# draws.
# One multiplication, its halves folded, mixes enough, as the seeds are mixed already.
# Source: the multiply-and-fold of wyhash, by Wang Yi (public domain).
cdef inline uint64_t block_draw(uint64_t block_seed, uint64_t seed) noexcept nogil:
    cdef uint128_t product = <uint128_t>block_seed * seed

    return <uint64_t>(product >> 64) ^ <uint64_t>product


# The draw of `slot`, from the one of its block.
cdef inline uint64_t slot_draw(uint64_t x, uint32_t slot) noexcept nogil:
    # An odd stride meets all 256 before it meets one again.
    return x + ((slot * (x | 1)) << (64 - BLOCK_BITS))


cdef inline uint64_t block_seed_of(uint32_t slot) noexcept nogil:
    return seed_of(slot >> BLOCK_BITS)


# Make `c` ready. `weight` is 1 to 2**20.
cdef void contender_init(
    contender_t* c, uint64_t id, uint32_t weight, uint16_t index
) noexcept nogil

# For qsort(3): an order that only the ids decide. 0 = the same id.
cdef int contender_compare(const void* a, const void* b) noexcept nogil

# Return the score of `c` at `slot`, below NO_SCORE: exponentially distributed over
# the slots, with the weight as its rate, and independent of all others' scores.
cdef uint64_t contender_score(const contender_t* c, uint32_t slot) noexcept nogil

# Return the score that `c` has where it draws `x`; it never falls as `x` rises.
cdef uint64_t contender_score_of(const contender_t* c, uint64_t x) noexcept nogil

# Replace `choice`, of `slot`, by the next worse one; by NO_SCORE after the last. Of
# equal scores the lower place is better.
cdef void choose_next(
    const contender_t* all, uint32_t n, uint32_t slot, choice_t* choice
) noexcept nogil
