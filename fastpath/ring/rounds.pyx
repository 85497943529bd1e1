"""Smooth weighted round robin (nginx's): the heaviest claim goes next."""

from math import gcd

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

cdef enum:
    # Places in the order; more weight than that is scaled down.
    MOST_ROUNDS = 4096
    ROUNDS_EACH = 16     # of a backend with the mean weight: a share within 3 %


cdef list _reduced(list weights):
    """Small weights with the same shares, or nearly."""
    total = sum(weights)
    divisor = gcd(*weights) or 1
    places = max(MOST_ROUNDS, ROUNDS_EACH * len(weights))
    reduced = [0] * len(weights)
    for i, weight in enumerate(weights):
        if total // divisor <= places:
            reduced[i] = weight // divisor
        elif weight > 0:
            reduced[i] = max(1, round(weight * places / total))
    return reduced


cdef uint16_t* rounds_new(list weights, uint32_t* size) except NULL:
    cdef uint32_t count = len(weights)
    cdef list reduced = _reduced(weights)  # may raise, so before there is what to free
    cdef int64_t* claims = <int64_t*>calloc(2 * count, sizeof(int64_t))
    cdef int64_t* shares = claims + count
    cdef uint16_t* rounds
    cdef uint32_t i, best, turn

    if claims == NULL:
        raise MemoryError
    for i in range(count):
        shares[i] = reduced[i]
        size[0] += shares[i]
    rounds = <uint16_t*>calloc(size[0] if size[0] > 0 else 1, sizeof(uint16_t))
    if rounds == NULL:
        free(claims)
        raise MemoryError
    for turn in range(size[0]):
        best = 0
        for i in range(count):
            claims[i] += shares[i]
            if claims[i] > claims[best]:
                best = i
        claims[best] -= size[0]
        rounds[turn] = best
    free(claims)
    return rounds
