"""Rendezvous hashing: the scores that a slot gives to backends.

Integers throughout, the logarithm included: the floating-point one differs between C
libraries, and two replicas that differ in one slot send one client two ways.
"""

# A constant, hence no state; Cython has no word for one. Entry k is
# 2**48 * (1 - log2(1 + k / 64)), rounded.
cdef extern from * nogil:
    """
    static const uint64_t ring_log_parts[65] = {
        0x1000000000000, 0xfa461a5e8f4b, 0xf4a296453881, 0xef14c7605d60,
        0xe99c090536ed, 0xe437bdbf5254, 0xdee74ee64b0c, 0xd9aa2c3b0ea4,
        0xd47fcb8c0853, 0xcf67a85fa1f9, 0xca6143a49627, 0xc56c23679b4d,
        0xc087d28dfb30, 0xbbb3e094b3d2, 0xb6efe153c7e3, 0xb23b6cc56cc8,
        0xad961ed0cb92, 0xa8ff971810a6, 0xa47778c98bcd, 0x9ffd6a73a78f,
        0x9b9115db83a4, 0x973227d6027f, 0x92e050231df5, 0x8e9b414b5a93,
        0x8a62b07f3458, 0x8636557862ad, 0x8215ea5cd3e5, 0x7e012ba34334,
        0x79f7d7f94e2b, 0x75f9b02af0d6, 0x7206770b5180, 0x6e1df15ec6c2,
        0x6a3fe5c60429, 0x666c1caa5b1b, 0x62a2602afef5, 0x5ee27c0b3cab,
        0x5b2c3da19724, 0x577f73c7bab8, 0x53dbeecb3b16, 0x5041805f0fb3,
        0x4caffb8dc3ba, 0x492734ac4f36, 0x45a7014d8fc5, 0x422f383657e9,
        0x3ebfb1520c7c, 0x3b5845a7c884, 0x37f8cf4fffea, 0x34a1296a9a50,
        0x315130157f7a, 0x2e08c0638f3f, 0x2ac7b853ff59, 0x278df6ca19bd,
        0x245b5b855669, 0x212fc719cc0d, 0x1e0b1ae8f2fd, 0x1aed391ab667,
        0x17d60496cfbb, 0x14c560fe68b0, 0x11bb32a60055, 0x0eb75e8f8ff6,
        0x0bb9ca64ecac, 0x08c25c7262b5, 0x05d0fba187cd, 0x02e58f7441ee,
        0x000000000000,
    };
    """
    const uint64_t LOG_PARTS "ring_log_parts"[65]
    int clz64 "__builtin_clzll"(unsigned long long bits)


cdef inline uint64_t draw(
    uint64_t block_seed, uint32_t slot, uint64_t seed
) noexcept nogil:
    return slot_draw(block_draw(block_seed, seed), slot)


# Return -log2(1 - x / 2**64) * 2**48, within 0.4 %, never falling as `x` rises:
# 64 straight lines per octave of 1 - x / 2**64.
cdef inline uint64_t neg_log2(uint64_t x) noexcept nogil:
    cdef uint64_t left = ~x | 1
    cdef int octave = clz64(left)
    cdef uint64_t fraction = (left << octave) << 1
    cdef uint64_t part = fraction >> 58
    cdef uint64_t drop = LOG_PARTS[part] - LOG_PARTS[part + 1]

    return (
        (<uint64_t>octave << 48)
        + LOG_PARTS[part]
        - high_half(drop, fraction << 6)
    )


cdef inline uint64_t score_of(const contender_t* c, uint64_t x) noexcept nogil:
    return high_half(neg_log2(x) << 9, c.inverse)


cdef uint64_t contender_score_of(const contender_t* c, uint64_t x) noexcept nogil:
    return score_of(c, x)


cdef uint64_t contender_score(const contender_t* c, uint32_t slot) noexcept nogil:
    return score_of(c, draw(block_seed_of(slot), slot, c.seed))


cdef void contender_init(
    contender_t* c, uint64_t id, uint32_t weight, uint16_t index
) noexcept nogil:
    c.seed = seed_of(id)
    c.weight = weight
    c.index = index
    c.inverse = ~<uint64_t>0 // weight
    # The slope of the last and flattest line of `neg_log2`, of which `x` is as long
    # as 128, in 64ths of the score: 2**7 * 2**9 * 2**6 = 2**22.
    c.step = (LOG_PARTS[63] << 22) // weight


cdef int contender_compare(const void* a, const void* b) noexcept nogil:
    # `seed_of` is a bijection, so this tells all ids apart, and an order of seeds
    # is as independent of the caller's as one of ids.
    cdef uint64_t one = (<const contender_t*>a).seed
    cdef uint64_t other = (<const contender_t*>b).seed

    return (one > other) - (one < other)


cdef void choose_next(
    const contender_t* all, uint32_t n, uint32_t slot, choice_t* choice
) noexcept nogil:
    cdef choice_t after = choice[0]
    cdef uint64_t block_seed = block_seed_of(slot)
    cdef uint64_t x, score
    cdef int32_t place

    choice.score = NO_SCORE
    for place in range(<int32_t>n):
        # Most are sorted out by a bound, without the logarithm.
        x = draw(block_seed, slot, all[place].seed)
        if high_half(x, all[place].step) >> 6 >= choice.score + LINE_ERROR:
            continue
        score = score_of(&all[place], x)
        if score < after.score or (score == after.score and place <= after.place):
            continue
        if score < choice.score:
            choice.score = score
            choice.place = place
