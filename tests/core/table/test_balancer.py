"""What each policy promises: fair shares, weights, tiers, health, slow start."""

from collections import Counter
from collections.abc import Callable

import pytest

from fastpath.api.snapshot import Health, Key
from fastpath.api.spec import Balance
from fastpath.table.balancer import Picker
from tests.support.picking import (
    PICKS,
    POLICIES,
    assert_shares,
    key,
    picker,
    shares,
    source,
)


@pytest.mark.parametrize("balance", POLICIES)
def test_all_equal_backends_get_a_fair_share(balance: Balance) -> None:
    counted = shares(picker(balance, 5))
    assert len(counted) == 5
    for count in counted.values():
        assert count == pytest.approx(PICKS / 5, rel=0.15)


@pytest.mark.parametrize("balance", POLICIES)
def test_weight_of_none_gets_nothing_even_if_nobody_else_is_up(
    balance: Balance,
) -> None:
    one = picker(balance, {0: 3, 1: 0, 2: 1})
    assert key(1) not in shares(one)
    for number in (0, 2):
        one.set(key(number), "dead")
    assert key(1) not in shares(one, 200)


@pytest.mark.parametrize("balance", POLICIES)
@pytest.mark.parametrize("tiers", [{}, {1: 3}], ids=["one tier", "two tiers"])
def test_pool_without_any_weight_has_nobody(
    balance: Balance, tiers: dict[int, int]
) -> None:
    assert picker(balance, {0: 0, 1: 0}, tiers=tiers).pick() is None


@pytest.mark.parametrize("balance", POLICIES)
def test_empty_pool_has_nobody(balance: Balance) -> None:
    assert picker(balance, 0).pick(source="10.9.9.9") is None


@pytest.mark.parametrize("balance", POLICIES)
@pytest.mark.parametrize("health", ["draining", "dead"])
def test_only_the_ready_are_picked_until_they_are_ready_again(
    balance: Balance, health: Health
) -> None:
    one = picker(balance, 4)
    one.set(key(2), health)
    assert set(shares(one)) == {key(0), key(1), key(3)}
    one.set(key(2), "ready")
    assert key(2) in shares(one)


@pytest.mark.parametrize("balance", POLICIES)
def test_tried_backends_are_left_out_up_to_the_last(balance: Balance) -> None:
    one = picker(balance, 4)
    tried: tuple[Key, ...] = ()
    for _ in range(4):
        counted = shares(one, 200, tried=tried)
        assert set(counted) == {key(n) for n in range(4)} - set(tried)
        tried += (min(name for name in counted if name is not None),)
    assert one.pick(source=source(1), tried=tried) is None


@pytest.mark.parametrize("balance", POLICIES)
def test_lowest_tier_that_is_up_takes_all(balance: Balance) -> None:
    tiers = {0: 0, 1: 0, 2: 2, 3: 2, 4: 7}
    one = picker(balance, 5, tiers=tiers)
    assert set(shares(one)) == {key(0), key(1)}
    one.set(key(0), "dead")
    assert set(shares(one)) == {key(1)}
    one.set(key(1), "draining")
    assert set(shares(one)) == {key(2), key(3)}
    one.set(key(2), "dead")
    one.set(key(3), "dead")
    assert set(shares(one)) == {key(4)}
    one.set(key(0), "ready")
    assert set(shares(one)) == {key(0)}


@pytest.mark.parametrize("balance", POLICIES)
def test_tier_without_weight_is_passed_over(balance: Balance) -> None:
    one = picker(balance, {0: 0, 1: 1}, tiers={1: 1})
    assert set(shares(one, 200)) == {key(1)}


@pytest.mark.parametrize("balance", POLICIES)
def test_second_tier_shares_as_fairly_as_the_first(balance: Balance) -> None:
    # Round robin counted one turn for the dead tier and one for the next, at each
    # pick: of two backends there, one got everything and the other nothing.
    one = picker(balance, 3, tiers={1: 1, 2: 1})
    one.set(key(0), "dead")
    counted = shares(one)
    for number in (1, 2):
        assert counted[key(number)] == pytest.approx(PICKS / 2, rel=0.1)


@pytest.mark.parametrize("balance", POLICIES)
def test_all_down_tries_whoever_is_not_leaving(balance: Balance) -> None:
    one = picker(balance, 4, tiers={3: 1})
    for number in range(4):
        one.set(key(number), "dead")
    one.set(key(1), "draining")
    assert set(shares(one)) == {key(0), key(2), key(3)}
    assert set(shares(one, tried=(key(0), key(3)))) == {key(2)}
    assert one.pick(tried=(key(0), key(2), key(3))) is None


@pytest.mark.parametrize("balance", POLICIES)
def test_all_down_refuses_where_the_pool_says_so(balance: Balance) -> None:
    one = picker(balance, 2, refuse=True)
    one.set(key(0), "dead")
    assert set(shares(one, 50)) == {key(1)}
    one.set(key(1), "dead")
    assert one.pick(source=source(1)) is None
    one.set(key(0), "ready")
    assert one.pick(source=source(1)) == key(0)


@pytest.mark.parametrize("balance", POLICIES)
@pytest.mark.parametrize("refuse", [True, False], ids=["refuse", "try"])
def test_all_draining_has_nobody(balance: Balance, refuse: bool) -> None:
    one = picker(balance, 2, refuse=refuse)
    for number in (0, 1):
        one.set(key(number), "draining")
    assert one.pick(source=source(1)) is None


@pytest.mark.parametrize("balance", POLICIES)
def test_one_of_a_hundred_is_found_when_all_others_are_down(balance: Balance) -> None:
    one = picker(balance, 100)
    for number in range(99):
        one.set(key(number), "dead")
    assert set(shares(one, 300)) == {key(99)}


class TestWeights:
    @pytest.mark.parametrize(
        "weights",
        [{0: 1, 1: 2, 2: 7}, {0: 1000, 1: 1}, {n: n + 1 for n in range(20)}],
        ids=["three", "extreme", "twenty"],
    )
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_random_meets_the_weights(self, weights: dict[int, int], seed: int) -> None:
        one = picker("random", weights, seed=seed)
        assert_shares(shares(one), {key(n): w for n, w in weights.items()})

    def test_random_meets_the_weights_of_those_that_are_left(self) -> None:
        one = picker("random", {0: 5, 1: 3, 2: 2, 3: 90})
        one.set(key(3), "dead")  # nine of ten samples: the scan decides mostly
        assert_shares(shares(one), {key(0): 5, key(1): 3, key(2): 2})

    def test_two_choices_takes_the_one_with_fewer_relays_per_weight(self) -> None:
        one = picker("two-choices", {0: 1, 1: 2})
        one.set(key(0), active=1)
        one.set(key(1), active=2)  # (1 + 1) / 1 > (2 + 1) / 2
        assert shares(one)[key(0)] < PICKS * 0.01
        one.set(key(1), active=4)  # (1 + 1) / 1 < (4 + 1) / 2
        # By weight, eight samples in a row are the heavier one once in 25 times.
        assert shares(one)[key(1)] < PICKS * 0.06

    def test_two_choices_never_takes_the_busiest(self) -> None:
        one = picker("two-choices", 8)
        for number in range(8):
            one.set(key(number), active=10 + number)
        counted = shares(one)
        assert key(7) not in counted
        # The n-th busiest of 8 wins against those busier: 7:6:5:... of 28.
        expected = {key(number): 7.0 - number for number in range(7)}
        assert_shares(counted, expected)

    def test_two_choices_evens_out_what_it_picks_itself(self) -> None:
        # Mitzenmacher, 2001: the gap between the fullest and the mean stays tiny.
        one = picker("two-choices", 10)
        active = Counter[Key | None]()
        for _ in range(1000):
            name = one.pick()
            assert name is not None
            active[name] += 1
            one.set(name, active=active[name])
        assert max(active.values()) - min(active.values()) <= 6

    def test_least_takes_the_fewest_relays_per_weight(self) -> None:
        one = picker("least", {0: 1, 1: 2, 2: 10})
        active = Counter[Key | None]()
        for _ in range(1300):
            name = one.pick()
            assert name is not None
            active[name] += 1
            one.set(name, active=active[name])
        assert active == {key(0): 100, key(1): 200, key(2): 1000}

    def test_least_with_ties_takes_turns(self) -> None:
        # Ties were broken by chance: 300 requests, one after another, met three equal
        # backends 90, 99 and 111 times.
        one = picker("least", 3)
        assert [one.pick() for _ in range(300)] == [key(n % 3) for n in range(300)]

    @pytest.mark.parametrize("tied", [(0, 2, 5), (1, 2), (3, 4, 5)], ids=str)
    def test_least_takes_turns_among_the_tied_only(self, tied: tuple[int, ...]) -> None:
        one = picker("least", 6)
        for number in range(6):
            one.set(key(number), active=3 if number in tied else 7)
        wanted = [key(tied[n % len(tied)]) for n in range(60)]
        assert [one.pick() for _ in range(60)] == wanted

    def test_least_takes_turns_in_a_second_tier(self) -> None:
        one = picker("least", 5, tiers={2: 1, 3: 1, 4: 1})
        assert [one.pick() for _ in range(3)] == [key(0), key(1), key(0)]
        one.set(key(0), "dead")
        one.set(key(1), "dead")
        assert [one.pick() for _ in range(6)] == [key(2 + n % 3) for n in range(6)]
        one.set(key(1), "ready")
        assert [one.pick() for _ in range(2)] == [key(1)] * 2

    def test_least_retry_does_not_favour_the_neighbour_of_a_dead_backend(self) -> None:
        # A dial to the first one fails each time, and never ejects it.
        one = picker("least", 3)
        served = Counter[Key | None]()
        for _ in range(300):
            name = one.pick()
            served[one.pick(tried=(key(0),)) if name == key(0) else name] += 1
        assert served == {key(1): 150, key(2): 150}

    def test_least_turns_do_not_outweigh_relays(self) -> None:
        one = picker("least", 3)
        assert one.pick() == key(0)
        one.set(key(1), active=1)
        assert [one.pick() for _ in range(4)] == [key(2), key(0), key(2), key(0)]

    def test_least_with_ties_takes_each_as_often(self) -> None:
        one = picker("least", 6)
        for number in (1, 3, 4):
            one.set(key(number), active=7)
        for number in (0, 2, 5):
            one.set(key(number), active=3)
        counted = shares(one)
        assert_shares(counted, {key(number): 1 for number in (0, 2, 5)})

    def test_least_leaves_the_one_with_fewest_when_it_was_tried(self) -> None:
        one = picker("least", 3)
        one.set(key(0), active=0)
        one.set(key(1), active=5)
        one.set(key(2), active=9)
        assert one.pick(tried=(key(0),)) == key(1)


class TestSlowStart:
    @pytest.mark.parametrize("balance", ["random", "round-robin"])
    @pytest.mark.parametrize(
        ("age_ms", "share"), [(0, 25 / 256), (5000, 140 / 256), (9999, 1), (10_000, 1)]
    )
    def test_share_grows_from_a_tenth_to_the_whole(
        self, balance: Balance, age_ms: int, share: float
    ) -> None:
        one = picker(balance, {0: 2, 1: 2}, slow_start_s=10)
        one.set(key(1), up_since_ms=50_000)
        counted = shares(one, now_ms=50_000 + age_ms)
        assert counted[key(1)] / counted[key(0)] == pytest.approx(share, rel=0.15)

    def test_least_counts_it_as_a_smaller_backend(self) -> None:
        one = picker("least", 2, slow_start_s=10)
        one.set(key(0), active=19)
        one.set(key(1), active=1, up_since_ms=50_000)
        # (19 + 1) / 1 against (1 + 1) / 0.098, and later against (1 + 1) / 0.55
        assert one.pick(50_000) == key(0)
        assert one.pick(55_000) == key(1)

    def test_none_at_start_nor_without_a_ramp(self) -> None:
        assert_shares(
            shares(picker("random", 2, slow_start_s=10)), {key(0): 1, key(1): 1}
        )
        one = picker("random", 2)
        one.set(key(1), up_since_ms=1)
        assert_shares(shares(one), {key(0): 1, key(1): 1})

    def test_ring_gives_all_back_at_once(self) -> None:
        # Half a share of a ring would send each client two ways.
        one = picker("ring", 3, slow_start_s=10)
        before = [one.pick(1, source(n)) for n in range(300)]
        one.set(key(1), up_since_ms=1)
        assert [one.pick(1, source(n)) for n in range(300)] == before

    @pytest.mark.parametrize("balance", POLICIES)
    def test_backend_that_stands_alone_takes_all_from_the_first_moment(
        self, balance: Balance
    ) -> None:
        one = picker(balance, 1, slow_start_s=10)
        one.set(key(0), up_since_ms=1000)
        assert set(shares(one, 500, now_ms=1000)) == {key(0)}

    def test_recovery_from_the_future_counts_as_just_now(self) -> None:
        # Workers read the clock once a turn, so one may be behind another.
        one = picker("random", 2, slow_start_s=10)
        one.set(key(1), up_since_ms=60_000)
        assert shares(one, now_ms=50_000)[key(1)] < PICKS * 0.15


def test_seed_is_all_the_chance_there_is() -> None:
    def picks(seed: int) -> list[Key | None]:
        one = picker("random", 10, seed=seed)
        return [one.pick() for _ in range(50)]

    assert picks(7) == picks(7)
    assert picks(7) != picks(8)


@pytest.mark.parametrize("balance", POLICIES)
@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.set(key(0), "dead"),
        lambda one: one.set(key(0), "draining"),
        lambda one: [one.failed(key(0), 1) for _ in range(3)],
    ],
    ids=["dead", "draining", "ejected"],
)
def test_whatever_takes_a_backend_out_its_share_goes_to_all_others(
    balance: Balance, change: Callable[[Picker], object]
) -> None:
    one = picker(balance, 4)
    change(one)
    counted = shares(one)
    assert set(counted) == {key(1), key(2), key(3)}
    for count in counted.values():
        assert count == pytest.approx(PICKS / 3, rel=0.2)


def test_round_robin_retry_takes_no_turn() -> None:
    # It did: with two backends, one of them dead and never ejected, every client's
    # retry used up the live one's turn, and the next client met the dead one again.
    one = picker("round-robin", 2)
    first = [one.pick() for _ in range(20) if one.pick(tried=(key(0),)) == key(1)]
    assert first.count(key(0)) == first.count(key(1)) == 10
