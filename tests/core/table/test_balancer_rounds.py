"""Round robin: the order is exact, also with weights, tiers and gaps."""

from collections import Counter

import pytest

from fastpath.api.snapshot import Key
from fastpath.table.balancer import Picker
from tests.support.picking import key, picker


def picks(one: Picker, count: int) -> list[Key | None]:
    return [one.pick() for _ in range(count)]


@pytest.mark.parametrize(
    "weights",
    [[1], [1, 1, 1], [5, 1, 1], [2, 3], [6, 4, 2], [0, 3, 1], [7, 0, 0, 7, 1]],
    ids=str,
)
def test_order_is_that_of_smooth_weighted_round_robin(weights: list[int]) -> None:
    # Oracle: the rule as nginx states it ("smooth weighted round-robin", 2012).
    one = picker("round-robin", dict(enumerate(weights)))
    current = [0] * len(weights)
    for name in picks(one, 3 * sum(weights)):
        current = [now + weight for now, weight in zip(current, weights, strict=True)]
        best = current.index(max(current))
        current[best] -= sum(weights)
        assert name == key(best)


def test_order_is_by_address_whatever_the_order_of_the_list() -> None:
    one = picker("round-robin", {2: 1, 0: 1, 1: 1})
    assert picks(one, 6) == [key(n % 3) for n in range(6)]


def test_who_is_down_is_passed_over_without_favouring_the_next() -> None:
    one = picker("round-robin", 4)
    one.set(key(1), "dead")
    assert picks(one, 6) == [key(n) for n in (0, 2, 3, 0, 2, 3)]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_each_tier_goes_round_by_itself(count: int) -> None:
    tiers = dict.fromkeys(range(3, 3 + count), 1)
    one = picker("round-robin", 3 + count, tiers=tiers)
    for number in range(3):
        one.set(key(number), "dead")
    counted = Counter(picks(one, 60 * count))
    assert set(counted.values()) == {60}


@pytest.mark.slow
def test_heavy_weights_of_many_keep_their_proportion() -> None:
    # 4,000 places asked for by coprime weights are given, 640,000 scaled down.
    for scale in (1, 200):
        weights = {n: scale * 4 + n % 3 for n in range(800)}
        counted = Counter(picks(picker("round-robin", weights), 40_000))
        for number in range(0, 800, 50):
            want = 40_000 * weights[number] / sum(weights.values())
            assert counted[key(number)] == pytest.approx(want, abs=0.06 * want + 1)


@pytest.mark.slow
def test_three_to_two_stays_so_in_a_large_pool() -> None:
    # Scaled down by whole numbers, three and two both became one.
    weights = {n: 2 if n == 0 else 3 for n in range(2000)}
    counted = Counter(picks(picker("round-robin", weights), 5 * 5999))
    assert counted[key(0)] == 10
    assert counted[key(1)] == 15


def test_largest_pool_is_built_while_one_waits() -> None:
    # 4,096 by 4,096 steps in Python took four seconds of every apply.
    one = picker("round-robin", {n: 1 + n % 2 for n in range(4096)})
    assert len(set(picks(one, 2048))) == 2048
