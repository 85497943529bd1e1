"""Passive ejection: a backend that fails to answer gets no relays for a while."""

import pytest

from fastpath.api.spec import Balance
from tests.support.picking import PICKS, POLICIES, assert_shares, key, picker, shares


@pytest.mark.parametrize("after", [1, 3, 10])
def test_so_many_failures_in_a_row_eject_for_a_while(after: int) -> None:
    one = picker("random", 3, eject_after=after, eject_s=10)
    for _ in range(after - 1):
        assert not one.failed(key(1), 1000)
    assert key(1) in shares(one, now_ms=1000)
    assert one.failed(key(1), 1000)
    assert key(1) not in shares(one, now_ms=1000)
    assert key(1) not in shares(one, now_ms=10_999)
    assert key(1) in shares(one, now_ms=11_000)


def test_success_in_between_starts_the_count_anew() -> None:
    one = picker("random", 3)
    for _ in range(5):
        for _ in range(2):
            assert not one.failed(key(1), 1000)
        assert not one.succeeded(key(1), 1000), "it was never away"
    assert key(1) in shares(one)


def test_each_ejection_in_a_row_lasts_twice_as_long_up_to_eight_times() -> None:
    one = picker("random", 2, eject_after=2, eject_s=10)
    now_ms = 1000
    one.failed(key(1), now_ms)
    for times in (1, 2, 4, 8, 8, 8):
        # Back, and it takes one failure only: nothing has succeeded since.
        assert one.failed(key(1), now_ms)
        until_ms = now_ms + times * 10_000
        assert key(1) not in shares(one, 300, now_ms=until_ms - 1)
        assert key(1) in shares(one, 300, now_ms=until_ms)
        now_ms = until_ms


def test_failure_while_ejected_neither_prolongs_nor_doubles() -> None:
    one = picker("random", 2, eject_after=1, eject_s=10)
    assert one.failed(key(1), 1000)
    for now_ms in (1001, 5000, 10_999):  # dials that were under way
        assert not one.failed(key(1), now_ms)
    assert key(1) in shares(one, now_ms=11_000)
    assert one.failed(key(1), 11_000)
    assert key(1) not in shares(one, now_ms=30_999)
    assert key(1) in shares(one, now_ms=31_000)


def test_success_recovers_at_once_and_forgets_the_doubling() -> None:
    one = picker("random", 2, eject_after=1, eject_s=10)
    one.failed(key(1), 1000)
    one.failed(key(1), 11_000)
    assert one.succeeded(key(1), 12_000)
    assert not one.succeeded(key(1), 12_001), "once only"
    assert key(1) in shares(one, now_ms=12_000)
    assert one.failed(key(1), 13_000)
    assert key(1) in shares(one, now_ms=23_000), "10 s again, not 40"


def test_recovery_starts_slowly_where_the_pool_says_so() -> None:
    one = picker("random", 2, eject_after=1, slow_start_s=10)
    one.failed(key(1), 1000)
    one.succeeded(key(1), 12_000)
    assert shares(one, now_ms=12_000)[key(1)] < PICKS * 0.15
    assert_shares(shares(one, now_ms=22_000), {key(0): 1, key(1): 1})


def test_zero_failures_means_never() -> None:
    one = picker("random", 2, eject_after=0)
    assert not any(one.failed(key(1), 1000) for _ in range(100))
    assert key(1) in shares(one, now_ms=1000)


@pytest.mark.parametrize("balance", POLICIES)
def test_all_ejected_are_tried_all_the_same(balance: Balance) -> None:
    one = picker(balance, 2, eject_after=1)
    for number in (0, 1):
        one.failed(key(number), 1000)
    assert set(shares(one, now_ms=1000)) == {key(0), key(1)}


@pytest.mark.parametrize("balance", POLICIES)
def test_ejected_tier_gives_way_to_the_next(balance: Balance) -> None:
    one = picker(balance, 2, tiers={1: 1}, eject_after=1)
    one.failed(key(0), 1000)
    assert set(shares(one, now_ms=1000)) == {key(1)}
    assert set(shares(one, now_ms=11_000)) == {key(0)}
