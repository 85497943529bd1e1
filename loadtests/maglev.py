"""Maglev's lookup table in plain Python: the peer that the ring is measured against.

Written from the description in "Maglev: A Fast and Reliable Software Network Load
Balancer", Eisenbud et al., NSDI 2016, section 3.4: each backend has a permutation of
the slots, and in turn each takes the first slot of its own that is still free.
"""

import hashlib
from collections.abc import Iterator, Sequence


def _preferences(key: int, size: int) -> Iterator[int]:
    """Yield the slots in the order in which backend `key` wants them."""
    digest = hashlib.blake2b(key.to_bytes(8, "little"), digest_size=16).digest()
    slot = int.from_bytes(digest[:8], "little") % size
    skip = int.from_bytes(digest[8:], "little") % (size - 1) + 1
    while True:
        yield slot
        slot = (slot + skip) % size


def maglev_table(keys: Sequence[int], size: int) -> list[int]:
    """Return the owner of each slot, as an index into `keys`.

    Args:
        keys: Identities of backends of equal weight, in any order.
        size: Slots; a prime, or a permutation may not reach them all.
    """
    owners = [-1] * size
    left = size
    order = sorted(range(len(keys)), key=keys.__getitem__)
    wishes = [(index, _preferences(keys[index], size)) for index in order]
    while True:
        for index, slots in wishes:
            for slot in slots:
                if owners[slot] < 0:
                    owners[slot] = index
                    break
            left -= 1
            if left == 0:
                return owners
