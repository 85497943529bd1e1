"""Items to build rings of, and their tables by id."""

import random

from fastpath.ring.ring import Ring
from tests.support.ring_reference import Items


def equal_items(count: int, seed: int = 1) -> Items:
    """Return `count` backends of weight 1 with random ids."""
    rng = random.Random(seed)
    return [(rng.getrandbits(64), 1) for _ in range(count)]


def weighted_items(count: int, heaviest: int, seed: int = 1) -> Items:
    """Return `count` backends with random ids and weights from 1 to `heaviest`."""
    rng = random.Random(seed)
    return [(rng.getrandbits(64), rng.randint(1, heaviest)) for _ in range(count)]


def owner_ids(items: Items, size: int) -> list[int]:
    """Return the id, not the index, of each slot's owner."""
    return [items[index][0] for index in Ring(items, size).owners()]
