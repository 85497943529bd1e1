"""The table is what its definition says, and the same on all replicas ever built.

It depends on no table before it: a change of one backend builds all of it again.
"""

import hashlib
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.ring.ring import Ring
from tests.support.ring_reference import Items, ReferenceRing, mixed, score
from tests.support.rings import equal_items, owner_ids, weighted_items

pytestmark = pytest.mark.live
BIG = 65_537


# --- against tables of earlier versions ---


def test_table_of_fixed_set_agrees_with_all_replicas_ever_built() -> None:
    # A change of these digests moves the clients of everybody who upgrades one
    # replica before another: it must be a BREAKING line in the changelog.
    ring = Ring([(1000 + i, 1 + i % 3) for i in range(30)], 4093)
    assert sys.byteorder == "little"
    digests = [
        hashlib.sha256(bytes(table)).hexdigest()[:32]
        for table in (ring.owners(), ring.seconds())
    ]
    assert digests == [
        "af336bc311566ecb6c05df500840b1a9",
        "5a8e6d4e0e8b643353443b02c56d07b7",
    ]


@pytest.mark.parametrize(
    ("count", "weight", "size", "expected"),
    [
        (1000, lambda i: 1, BIG, "499c51d96d285c0435a6e84422292285"),
        (1000, lambda i: 1 + i % 3, BIG, "be45f84bfeae9a696f2499d4eb4920f8"),
        (4096, lambda i: 1, 0, "d4d3baf6ba549a4923637bbdedd00815"),
        (
            1000,
            lambda i: 2**20 if i < 8 else 1 + i % 3,
            16_381,
            "5559d0c2d1bb4ffb34aa26441cdb772d",
        ),
        (300, lambda i: i * i % 101, 4093, "cc40a3780aef1b77021e947a5224624e"),
    ],
    ids=["equal", "weighted", "most", "giants", "squares"],
)
def test_large_table_agrees_with_those_that_scored_each_backend_at_each_slot(
    count: int, weight: Callable[[int], int], size: int, expected: str
) -> None:
    # The digests were made before there were lists of the few that matter.
    ring = Ring([(1000 + i, weight(i)) for i in range(count)], size)
    tables = bytes(ring.owners()) + bytes(ring.seconds())
    assert hashlib.sha256(tables).hexdigest()[:32] == expected


# --- against the definition ---


item_lists = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 9) | st.integers(0, 2**20)),
    min_size=1,
    max_size=8,
    unique_by=lambda item: item[0],
).filter(lambda items: any(weight for _, weight in items))


@given(item_lists, st.integers(1, 150))
def test_ring_matches_its_definition(items: Items, size: int) -> None:
    ring = Ring(items, size)
    reference = ReferenceRing(items, size)
    assert list(ring.owners()) == reference.owners
    assert list(ring.seconds()) == reference.seconds


@given(
    st.lists(st.sampled_from([0, 1, 1, 1, 2, 50, 2**20]), min_size=3, max_size=40),
    st.integers(0, 2**32),
    st.sampled_from([90, 270]),
)
def test_ring_of_many_matches_its_definition(
    weights: list[int], seed: int, size: int
) -> None:
    # In one block of slots or two; most backends are not on the list of most slots.
    keys = [key for key, _ in equal_items(len(weights), seed)]
    items = list(zip(keys, weights, strict=True))
    if not any(weights):
        return
    ring = Ring(items, size)
    reference = ReferenceRing(items, size)
    assert list(ring.owners()) == reference.owners
    assert list(ring.seconds()) == reference.seconds


def test_change_and_change_back_is_no_change() -> None:
    items = weighted_items(200, 3)
    before = owner_ids(items, 4093)
    for changed in (items[1:], [*items, (5, 1)], [(items[0][0], 9), *items[1:]]):
        assert owner_ids(changed, 4093) != before
        assert owner_ids(items, 4093) == before


@given(item_lists, st.integers(0, 149), st.data())
def test_rescore_matches_its_definition(
    items: Items, slot: int, data: st.DataObject
) -> None:
    usable = data.draw(
        st.lists(st.booleans(), min_size=len(items), max_size=len(items))
    )
    scores = [
        (score(slot, key, weight), mixed(key), index)
        for index, (key, weight) in enumerate(items)
        if weight and usable[index]
    ]
    expected = min(scores)[2] if scores else -1
    assert Ring(items, 150).rescore(slot, usable) == expected


@pytest.mark.parametrize("heaviest", [1, 1000], ids=["equal", "weighted"])
def test_first_choices_of_many_backends_match_their_definition(heaviest: int) -> None:
    # Beyond what the bounds correct: the slots whose best scorer is not full.
    items = weighted_items(300, heaviest)
    ring = Ring(items, 4093)
    for slot in range(0, 4093, 40):
        scores = sorted(
            (score(slot, key, weight), index)
            for index, (key, weight) in enumerate(items)
        )
        best = [index for _, index in scores]
        owner, second = ring.owners()[slot], ring.seconds()[slot]
        assert second == (best[1] if owner == best[0] else best[0])
        assert ring.rescore(slot, [True] * 300) == best[0]
