"""The ring: shares, moves and lookups, also against Maglev's."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.ring.ring import Ring, hash_bytes, time_lookups
from loadtests.maglev import maglev_table
from tests.support.ring_reference import Items
from tests.support.rings import equal_items, owner_ids, weighted_items

pytestmark = pytest.mark.live
BIG = 65_537


def needless_share(before: Sequence[int], after: Sequence[int], leaver: int) -> float:
    """Share of all slots that moved although `leaver` did not own them."""
    pairs = zip(before, after, strict=True)
    return sum(a not in (b, leaver) for a, b in pairs) / len(before)


def without(items: Items, leaver: int) -> Items:
    """Return the other items."""
    return [item for item in items if item[0] != leaver]


# --- a pure function of the set ---


@pytest.mark.parametrize("heaviest", [1, 100], ids=["equal", "weighted"])
def test_owners_do_not_depend_on_order(heaviest: int) -> None:
    items = weighted_items(40, heaviest)
    expected = owner_ids(items, 4093)
    for seed in range(5):
        random.Random(seed).shuffle(items)
        assert owner_ids(items, 4093) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"\x00", 0x910A2DEC89025CC1),
        (bytes(16), 0x2894CBAC52ABF6E5),
        (b"\x0a\x00\x00\x01" + bytes(12), 0xC718E7A07935A2D7),
        (bytes(range(37)), 0xA2393C3C5E3ADD26),
    ],
    ids=["empty", "zero", "zeros", "ipv4", "tuple"],
)
def test_hash_of_fixed_bytes_agrees_with_all_replicas_ever_built(
    data: bytes, expected: int
) -> None:
    assert hash_bytes(data) == expected


# --- shares ---


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (1, 1021),
        (3, 1021),
        (10, 1021),
        (40, 4093),
        (100, 16_381),
        (10, BIG),
        (100, BIG),
        (655, BIG),
        (1000, BIG),
    ],
)
def test_equal_backends_own_their_share_within_6_percent(count: int, size: int) -> None:
    slots = Counter(Ring(equal_items(count), size).owners())
    assert len(slots) == count
    assert max(slots.values()) <= 1.06 * size / count
    assert min(slots.values()) >= 0.94 * size / count


@pytest.mark.parametrize(
    ("count", "heaviest"), [(2, 20), (10, 10), (10, 100), (100, 10), (100, 100)]
)
def test_weighted_backends_own_their_share_within_6_percent(
    count: int, heaviest: int
) -> None:
    items = weighted_items(count, heaviest)
    slots = Counter(Ring(items, BIG).owners())
    total = sum(weight for _, weight in items)
    for index, (_, weight) in enumerate(items):
        share = BIG * weight / total
        if share < 17:  # 6 % is less than a slot
            assert int(share) - 1 <= slots[index] <= int(share) + 1
        else:
            assert 0.94 * share <= slots[index] <= 1.06 * share


def test_most_backends_own_whole_numbers_beside_their_share() -> None:
    # 16.0002 slots each: one of them must have 17, and none needs more.
    slots = Counter(Ring(equal_items(4096), BIG).owners())
    assert len(slots) == 4096
    assert set(slots.values()) <= {15, 16, 17}


def test_fewer_slots_than_backends_go_to_one_each() -> None:
    slots = Counter(Ring(equal_items(50), 7).owners())
    assert set(slots.values()) == {1}


def test_backend_of_weight_0_owns_nothing_and_moves_nothing() -> None:
    items = equal_items(10)
    idle = (12345, 0)
    assert owner_ids([*items, idle], 1021) == owner_ids(items, 1021)
    ring = Ring([*items, idle], 1021)
    assert 10 not in ring.seconds()
    assert ring.rescore(0, [False] * 10 + [True]) == -1


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (1, 1021),
        (10, 1021),
        (11, 4093),
        (40, 4093),
        (41, 16_381),
        (163, 16_381),
        (164, BIG),
        (1000, BIG),
        (4096, BIG),
        (4097, 262_139),
    ],
)
def test_size_is_the_smallest_with_100_slots_each_or_else_16(
    count: int, size: int
) -> None:
    assert Ring(equal_items(count)).size == size


# --- moves ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "size", "leavers"),
    [(10, BIG, 10), (100, BIG, 12), (10, 1021, 10), (100, 16_381, 20)],
)
def test_needless_moves_are_at_most_a_fifth_of_maglevs(
    count: int, size: int, leavers: int
) -> None:
    items = equal_items(count)
    keys = [key for key, _ in items]
    ours = owner_ids(items, size)
    maglevs = [keys[index] for index in maglev_table(keys, size)]
    sums = [0.0, 0.0]
    for leaver in random.Random(2).sample(keys, leavers):
        sums[0] += needless_share(ours, owner_ids(without(items, leaver), size), leaver)
        left = [key for key in keys if key != leaver]
        after = [left[index] for index in maglev_table(left, size)]
        sums[1] += needless_share(maglevs, after, leaver)
    assert sums[1] > 0
    assert sums[0] <= sums[1] / 5


def test_adding_a_backend_mirrors_its_removal() -> None:
    items = equal_items(100)
    new = (42, 1)
    before = owner_ids(items, 16_381)
    after = owner_ids([*items, new], 16_381)
    assert needless_share(after, before, 42) < 0.003
    gained = sum(owner == 42 for owner in after)
    assert 0.94 * 16_381 / 101 <= gained <= 1.06 * 16_381 / 101


def test_changed_weight_moves_little_between_the_others() -> None:
    items = equal_items(10)
    heavier = [(items[0][0], 2), *items[1:]]
    moved = needless_share(owner_ids(heavier, BIG), owner_ids(items, BIG), items[0][0])
    assert moved < 0.001


# --- second choices ---


def test_second_is_another_live_backend() -> None:
    ring = Ring([*equal_items(10), (7, 0)], 1021)
    pairs = list(zip(ring.owners(), ring.seconds(), strict=True))
    assert all(owner != second for owner, second in pairs)
    assert {second for _, second in pairs} == set(range(10))


@pytest.mark.parametrize("items", [[(5, 3)], [(1, 0), (5, 3), (9, 0)]])
def test_second_of_the_only_live_backend_is_itself(items: Items) -> None:
    ring = Ring(items, 100)
    only = [weight > 0 for _, weight in items].index(True)
    assert set(ring.owners()) == set(ring.seconds()) == {only}


def test_seconds_of_one_owner_spread_over_all_others() -> None:
    # A dead backend's load must not land on few: 728 slots each are expected.
    ring = Ring(equal_items(10), BIG)
    pairs = zip(ring.owners(), ring.seconds(), strict=True)
    heirs = Counter(second for owner, second in pairs if owner == 0)
    assert len(heirs) == 9
    assert 600 < min(heirs.values()) <= max(heirs.values()) < 860


@pytest.mark.parametrize(
    ("count", "size", "share"),
    [(10, BIG, 0.999), (100, BIG, 0.99), (100, 16_381, 0.96), (10, 1021, 0.92)],
)
def test_removal_agrees_with_second_choices(
    count: int, size: int, share: float
) -> None:
    items = equal_items(count)
    ring = Ring(items, size)
    agreed = all_ = 0
    for leaver in range(10):
        after = owner_ids(without(items, items[leaver][0]), size)
        for slot, owner in enumerate(ring.owners()):
            if owner == leaver:
                all_ += 1
                agreed += after[slot] == items[ring.seconds()[slot]][0]
    assert agreed / all_ >= share


def test_rescore_without_owner_is_the_second_choice() -> None:
    ring = Ring(weighted_items(20, 9), 4093)
    tables = zip(ring.owners(), ring.seconds(), strict=True)
    for slot, (owner, second) in enumerate(tables):
        assert ring.rescore(slot, [i != owner for i in range(20)]) == second


# --- lookups and hashes ---


@given(st.integers(0, 2**64 - 1))
def test_lookup_reads_the_slot_of_the_upper_half(hash_: int) -> None:
    ring = Ring([(1, 1), (2, 1), (3, 1)], 1021)
    slot = (hash_ >> 32) * 1021 >> 32
    assert ring.slot(hash_) == slot
    assert ring.lookup(hash_) == ring.owners()[slot]
    assert ring.second(hash_) == ring.seconds()[slot]


@pytest.mark.parametrize("stride", [1, 256, 65_536], ids=["hosts", "nets", "far"])
def test_hash_spreads_neighbouring_addresses(stride: int) -> None:
    # 64 slots of 256 expected each; chi-square with 63 degrees of freedom stays
    # below 103.4 in 999 of 1000 draws.
    slots = Counter(
        hash_bytes((0x0A000000 + i * stride).to_bytes(4, "big") + bytes(12)) >> 58
        for i in range(16_384)
    )
    assert sum((slots[s] - 256) ** 2 / 256 for s in range(64)) < 103.4


@given(st.binary(min_size=1, max_size=40), st.data())
def test_hash_changes_with_each_bit(data: bytes, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    flipped = int.from_bytes(data, "little") ^ 1 << bit
    other = flipped.to_bytes(len(data), "little")
    assert (hash_bytes(data) ^ hash_bytes(other)).bit_count() > 5
    assert hash_bytes(data) != hash_bytes(data + b"\x00")


def test_time_of_lookups_is_a_positive_number() -> None:
    ring = Ring(equal_items(3))
    assert ring.time_lookups(1000) > 0
    assert ring.time_lookups(1000, chained=True) > 0
    assert time_lookups(bytes(ring.owners()), 1000, modulo=True) > 0


# --- bad input ---


@pytest.mark.parametrize(
    ("items", "size", "complaint"),
    [
        ([], 0, "1-16384 backends, not 0"),
        ([(i, 1) for i in range(16_385)], 0, "not 16385"),
        ([(1, 1), (1, 2)], 0, "twice"),
        ([(1, 0), (2, 0)], 0, "no backend has a weight"),
        ([(1, -1)], 0, "weight -1 of id 1"),
        ([(1, 2**20 + 1)], 0, "weight 1048577"),
        ([(-1, 1)], 0, "id -1"),
        ([(2**64, 1)], 0, "does not fit 64 bits"),
        ([(1, 1)], -1, "size -1"),
        ([(1, 1)], 2**20 + 1, "size 1048577"),
    ],
)
def test_bad_input_raises_value_error(items: Items, size: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Ring(items, size)


@pytest.mark.parametrize("items", [[("a", 1)], [(1, "b")], [(1.5, 1)], [7]])
def test_wrong_types_raise_type_error(items: Items) -> None:
    with pytest.raises(TypeError):
        Ring(items)


def test_bad_rescore_raises_value_error() -> None:
    ring = Ring(equal_items(3))
    with pytest.raises(ValueError, match="slot 1021 of 1021"):
        ring.rescore(1021, [True] * 3)
    with pytest.raises(ValueError, match="2 facts about 3 backends"):
        ring.rescore(0, [True] * 2)
    with pytest.raises(ValueError, match="nothing to look up"):
        time_lookups(b"", 1)


def test_extremes_of_size_and_weight_are_accepted() -> None:
    ring = Ring([(0, 2**20), (2**64 - 1, 1)], 2**20)
    slots = Counter(ring.owners())
    assert ring.size == 2**20
    assert slots[1] in (0, 1)
    assert Ring([(0, 1)], 1).lookup(2**64 - 1) == 0
