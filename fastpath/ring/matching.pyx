"""Matching slots with contenders, each within bounds around its share.

Each slot goes to the contender that scores best at it. That alone gives shares that
are proportional to the weights, and moves only the leaver's slots when one leaves.
But shares by draw scatter, by 7 % where a contender has 100 slots. So there are two
corrections, each of which touches as few slots as it can:

 1. *At most*: slots and contenders are matched as in stable marriage (Gale and
    Shapley, 1962). A full contender keeps the slots in which it scores best; the others
    go to their next choice. The outcome does not depend on the order of proposals.
 2. *At least*: a contender left with too few takes over the slots that it lost most
    narrowly, first among those that have it as second choice.
"""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from fastpath.ring.rendezvous cimport choice_t, contender_score
from fastpath.ring.shortlist cimport (
    shortlist_fini,
    shortlist_init,
    shortlist_next,
    shortlist_t,
    shortlist_two,
)

cdef enum:
    SLACK_PERCENT = 6  # how far a share may be from what the weight asks for
    NO_SLOT = 0xffffffff

# The slots that a contender may have and has.
cdef struct share_t:
    uint32_t least
    uint32_t most
    uint32_t count
    uint32_t first      # where its claims begin
    bint     is_heap    # its claims are, the worst on top; only once full

# A wish for a slot; the lower score is served first.
cdef struct claim_t:
    uint64_t score
    uint32_t slot
    uint32_t spare

# A matching at work. Slots point to places, that is, positions in `all`.
cdef struct matching_t:
    const contender_t* all      # borrowed
    uint32_t           n
    uint32_t           size
    uint16_t*          owner    # borrowed; of each slot
    uint16_t*          second   # borrowed
    uint16_t*          wanted   # owned; the first choice of each slot
    uint32_t*          heirs    # owned; by place, the first slot with it as second
    uint32_t*          chain    # owned; by slot, the next one with the same second
    share_t*           shares   # owned; one per place
    claim_t*           claims   # owned; of all places, one after another
    shortlist_t        list


# --- at most: stable matching ---


cdef inline bint is_worse(const claim_t* a, const claim_t* b) noexcept nogil:
    return a.score > b.score or (a.score == b.score and a.slot > b.slot)


cdef void sift_down(claim_t* heap, uint32_t count, uint32_t at) noexcept nogil:
    cdef claim_t moving = heap[at]
    cdef uint32_t child = 2 * at + 1

    while child < count:
        if child + 1 < count and is_worse(&heap[child + 1], &heap[child]):
            child += 1
        if not is_worse(&heap[child], &moving):
            break
        heap[at] = heap[child]
        at = child
        child = 2 * at + 1
    heap[at] = moving


# Let a full contender choose between `claim` and what it has. The loser is in `claim`.
cdef void keep_the_best(
    matching_t* m, uint32_t place, claim_t* claim
) noexcept nogil:
    cdef share_t* share = &m.shares[place]
    cdef claim_t* heap = &m.claims[share.first]
    cdef claim_t loser
    cdef uint32_t i

    if not share.is_heap:
        share.is_heap = True
        for i in range(share.count // 2, 0, -1):
            sift_down(heap, share.count, i - 1)
    if is_worse(claim, &heap[0]):
        return
    loser = heap[0]
    heap[0] = claim[0]
    m.owner[claim.slot] = place
    sift_down(heap, share.count, 0)
    claim[0] = loser


# Give `slot` to the best contender that has room, or prefers it to one that it has;
# that one moves on likewise. Ends because all `most` together cover the slots.
cdef void settle(matching_t* m, uint32_t slot, choice_t choice) noexcept nogil:
    cdef claim_t claim
    cdef share_t* share

    claim.slot = slot
    claim.spare = 0
    while True:
        claim.score = choice.score
        share = &m.shares[choice.place]
        if share.count < share.most:
            m.claims[share.first + share.count] = claim
            share.count += 1
            m.owner[claim.slot] = choice.place
            return
        keep_the_best(m, choice.place, &claim)
        choice.score = claim.score
        shortlist_next(&m.list, claim.slot, &choice)


# --- at least: taking over ---


# Enter `slot` into the heap of what `place` can take over, if its owner can spare it.
# Upside down, so that the most narrowly lost slot is on top, of those the first.
cdef inline uint32_t claim_loss(
    matching_t* m, uint32_t place, uint32_t slot, uint32_t count
) noexcept nogil:
    cdef uint32_t owner = m.owner[slot]

    if owner == place or m.shares[owner].count <= m.shares[owner].least:
        return count
    m.claims[count].slot = ~slot
    m.claims[count].score = ~(
        contender_score(&m.all[place], slot) - contender_score(&m.all[owner], slot)
    )
    return count + 1


# Move slots to `place` until it has its least, the most narrowly lost ones first,
# from owners that have more than theirs. Unless `anywhere`, only those that have it as
# second choice: nearly always enough, and a hundredth of the work.
cdef void take_over(matching_t* m, uint32_t place, bint anywhere) noexcept nogil:
    cdef share_t* share = &m.shares[place]
    cdef share_t* loser
    cdef uint32_t count = 0
    cdef uint32_t slot, i

    # The claims of the matching have done their work: their memory is free.
    if anywhere:
        for slot in range(m.size):
            count = claim_loss(m, place, slot, count)
    else:
        slot = m.heirs[place]
        while slot != NO_SLOT:
            count = claim_loss(m, place, slot, count)
            slot = m.chain[slot]
    for i in range(count // 2, 0, -1):
        sift_down(m.claims, count, i - 1)
    while count > 0 and share.count < share.least:
        slot = ~m.claims[0].slot
        loser = &m.shares[m.owner[slot]]
        if loser.count > loser.least:
            loser.count -= 1
            share.count += 1
            m.owner[slot] = place
        count -= 1
        m.claims[0] = m.claims[count]
        sift_down(m.claims, count, 0)


# --- the whole ---


# Lay down how many slots each may have. Return how many claims that can be.
cdef uint32_t share_out(matching_t* m) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint64_t exact  # times total
    cdef uint32_t claims = 0
    cdef share_t* share
    cdef uint32_t i

    for i in range(m.n):
        total += m.all[i].weight
    for i in range(m.n):
        share = &m.shares[i]
        exact = <uint64_t>m.size * m.all[i].weight
        if exact * SLACK_PERCENT >= 100 * total:
            # Inwards, so that the slack is kept to the slot.
            share.most = exact * (100 + SLACK_PERCENT) // (100 * total)
            share.least = (
                exact * (100 - SLACK_PERCENT) + 100 * total - 1
            ) // (100 * total)
        else:
            # The slack is less than a slot. Up, lest slots be left over; and down
            # past the whole, lest every contender be nailed to its share.
            share.most = (exact + total - 1) // total
            share.least = exact // total - (exact >= total)
        share.first = claims
        claims += share.most
    return max(claims, m.size)


# Settle all slots, and chain those with the same second choice. Return 0 or -ENOMEM.
cdef int settle_all(matching_t* m) noexcept nogil:
    cdef choice_t two[2]
    cdef uint32_t slot, second
    cdef int result

    memset(m.heirs, 0xff, m.n * sizeof(uint32_t))  # NO_SLOT
    for slot in range(m.size):
        result = shortlist_two(&m.list, slot, two)
        if result < 0:
            return result
        second = two[1].place if m.n > 1 else two[0].place
        m.wanted[slot] = two[0].place
        m.second[slot] = second
        m.chain[slot] = m.heirs[second]
        m.heirs[second] = slot
        settle(m, slot, two[0])
    return 0


cdef int fill(matching_t* m) noexcept nogil:
    cdef uint32_t slot, place
    cdef int result = settle_all(m)

    if result < 0:
        return result
    for place in range(m.n):
        if m.shares[place].count < m.shares[place].least:
            take_over(m, place, False)
        if m.shares[place].count < m.shares[place].least:
            take_over(m, place, True)
    for slot in range(m.size):
        # A slot that had to leave its first choice has that as its second.
        if m.owner[slot] != m.wanted[slot]:
            m.second[slot] = m.wanted[slot]
    return 0


cdef int match_slots(
    const contender_t* all, uint32_t n, uint32_t size, uint16_t* owner, uint16_t* second
) noexcept nogil:
    cdef matching_t m
    cdef int result

    memset(&m, 0, sizeof(m))
    m.all = all
    m.n = n
    m.size = size
    m.owner = owner
    m.second = second
    m.wanted = <uint16_t*>malloc(size * sizeof(uint16_t))
    m.heirs = <uint32_t*>malloc(n * sizeof(uint32_t))
    m.chain = <uint32_t*>malloc(size * sizeof(uint32_t))
    m.shares = <share_t*>calloc(n, sizeof(share_t))
    if m.shares != NULL:
        m.claims = <claim_t*>malloc(share_out(&m) * sizeof(claim_t))
    result = shortlist_init(&m.list, all, n, size)
    if m.wanted == NULL or m.heirs == NULL or m.chain == NULL or m.claims == NULL:
        result = -ENOMEM
    if result == 0:
        result = fill(&m)
    shortlist_fini(&m.list)
    free(m.wanted)
    free(m.heirs)
    free(m.chain)
    free(m.shares)
    free(m.claims)
    return result
