"""Histograms and the blocks that counters live in."""

import bisect
import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from fastpath.base.stats import DROP_NAMES, Counters, bucket_of, histogram_bounds_us

BUCKETS = 54
CHUNK = 64


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
    assert DROP_NAMES[-1] == "proxy_protocol"


def test_counters_stay_where_they_are_while_chunks_are_added() -> None:
    counters = Counters()
    assert counters.reserve(1, 1) == 0
    assert counters.vip(0) == 1
    assert counters.backend(CHUNK - 1) == 1
    assert counters.reserve(3 * CHUNK, 10 * CHUNK) == 0
    assert counters.vip(0) == 2
    assert counters.backend(CHUNK - 1) == 2
    for slot in range(10 * CHUNK):
        assert counters.backend(slot) == (3 if slot == CHUNK - 1 else 1)
    for slot in range(3 * CHUNK):
        assert counters.vip(slot) == (3 if slot == 0 else 1)


def test_reserving_less_takes_nothing_away() -> None:
    counters = Counters()
    counters.reserve(2 * CHUNK, 0)
    assert counters.vip(2 * CHUNK - 1) == 1
    counters.reserve(0, 0)
    assert counters.vip(2 * CHUNK - 1) == 2
