"""Histograms and the blocks that counters live in."""

import bisect
import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from fastpath.base.stats import (
    DROP_NAMES,
    LOSS_NAMES,
    Counters,
    bucket_of,
    histogram_bounds_us,
)

BUCKETS = 54
PAGE = 1024  # blocks, see STATS_PAGE


def test_bounds_rise_by_no_more_than_half() -> None:
    bounds = histogram_bounds_us()
    assert len(bounds) == BUCKETS - 1, "the last bucket is open"
    for low, high in itertools.pairwise(bounds):
        assert low < high <= low * 1.5
    assert bounds[0] == 2
    assert bounds[-1] == 1 << 27, "134 s, beyond any connect timeout in its senses"


@given(st.integers(0, (1 << 64) - 1))
@example(0)
@example(1)
@example((1 << 64) - 1)
def test_duration_falls_into_the_bucket_of_its_bounds(us: int) -> None:
    assert bucket_of(us) == bisect.bisect_right(histogram_bounds_us(), us)


def test_bounds_are_exclusive() -> None:
    for bucket, bound in enumerate(histogram_bounds_us()):
        assert bucket_of(bound - 1) == bucket
        assert bucket_of(bound) == bucket + 1


def test_buckets_never_fall_as_durations_rise() -> None:
    buckets = [bucket_of(us) for us in range(5000)]
    assert buckets == sorted(buckets)
    assert set(buckets) == set(range(max(buckets) + 1)), "one is never used"
    assert bucket_of(1 << 40) == BUCKETS - 1


def test_each_drop_reason_has_a_name_of_its_own() -> None:
    assert len(set(DROP_NAMES)) == len(DROP_NAMES)
    assert DROP_NAMES[0] == "closed"
    assert DROP_NAMES[-1] == "vip_removed"
    assert len(set(LOSS_NAMES)) == len(LOSS_NAMES)
    assert (LOSS_NAMES[0], LOSS_NAMES[-1]) == ("no_backend", "unsendable")


def test_counters_begin_at_zero_and_stay_where_they_are() -> None:
    counters = Counters()
    slots = [0, 1, PAGE - 1, PAGE, 3 * PAGE + 7, PAGE * PAGE - 1]
    for count in (1, 2, 3):
        for slot in slots:
            assert counters.vip(slot) == counters.backend(slot) == count
            assert counters.web(slot, 200) == count


def test_slot_without_a_count_takes_no_memory() -> None:
    counters = Counters()
    assert counters.counted(5) == (False, False)
    counters.vip(5)
    assert counters.counted(5) == (True, False)
    assert counters.counted(6) == (False, False)


def test_next_owner_of_a_slot_counts_from_zero() -> None:
    counters = Counters()
    for slot in (3, 4):
        counters.vip(slot)
        counters.backend(slot)
        counters.web(slot, 404)
    counters.forget(3)
    counters.forget(3)  # again is nothing
    assert counters.vip(3) == counters.backend(3) == counters.web(3, 404) == 1
    assert counters.vip(4) == counters.backend(4) == counters.web(4, 404) == 2


def test_statuses_are_counted_each_for_itself() -> None:
    counters = Counters()
    assert [counters.web(0, code) for code in (100, 200, 299, 599, 200)] == [
        1,
        1,
        1,
        1,
        2,
    ]
