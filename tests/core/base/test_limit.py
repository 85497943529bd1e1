"""Limits: windows of a second, and the sketch that counts sources without names."""

import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.base.limit import Sketch
from fastpath.ring.ring import hash_bytes

ROW_BITS = 16  # a row of the sketch takes that many bits of a source

# Few values per row, so that sources do meet in one row or in both.
sources = st.builds(
    lambda one, other, rest: one | other << ROW_BITS | rest << 2 * ROW_BITS,
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 2),
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), sources), max_size=120),
)
def test_sketch_never_counts_less_than_there_are(
    steps: list[tuple[bool, int]],
) -> None:
    sketch, live = Sketch(), Counter[int]()
    for enters, source in steps:
        if enters:
            live[source] += 1
            counted = sketch.enter(source)
            assert live[source] <= counted <= live.total()
        elif live[source] > 0:
            live[source] -= 1
            sketch.leave(source)
    for source in list(live.elements()):
        sketch.leave(source)
    for source in live:
        assert sketch.enter(source) == 1, "something stayed behind"
        sketch.leave(source)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(sources, st.integers(0, 2)), max_size=120),
)
def test_sketch_never_counts_fewer_new_ones_in_a_second(
    steps: list[tuple[int, int]],
) -> None:
    sketch, recent, now_s = Sketch(), Counter[int](), 1000
    for source, later_s in steps:
        now_s += later_s
        if later_s:
            recent.clear()
        recent[source] += 1
        counted = sketch.recent(source, now_s)
        assert recent[source] <= counted <= recent.total()


def test_sources_are_counted_apart_unless_they_meet_in_both_rows() -> None:
    sketch = Sketch()
    for _ in range(10):
        sketch.enter(0x0001_0001)
    assert sketch.enter(0xABCD_0001_0001) == 11, "both rows: too early, never too late"
    assert sketch.enter(0x0002_0001) == 1, "one row only"
    assert sketch.enter(0x0001_0002) == 1, "one row only"
    assert sketch.enter(0x0101_0001) == 1, "the rows have no bit in common"


def test_ten_thousand_sources_at_once_are_hardly_ever_taken_for_another() -> None:
    # 10,000 in two rows of 65,536: each has 14 % to meet one in a row, 2 % in both.
    sketch = Sketch()
    hashes = [hash_bytes(number.to_bytes(16, "big")) for number in range(10_000)]
    wrong = sum(sketch.enter(source) > 1 for source in hashes)
    assert wrong < 200


def test_one_source_uses_its_own_counters_for_live_and_recent() -> None:
    sketch = Sketch()
    assert sketch.enter(7) == 1
    assert sketch.recent(7, 5) == 1
    assert sketch.enter(7) == 2


def test_window_counts_within_a_second_and_starts_anew_in_the_next() -> None:
    sketch = Sketch()
    assert [sketch.add(100) for _ in range(3)] == [1, 2, 3]
    assert [sketch.add(101) for _ in range(2)] == [1, 2]
    assert sketch.add(100_000) == 1


def test_worker_that_is_a_second_behind_does_not_reset_the_window() -> None:
    # Workers read the clock once a turn: at the edge of a second one still lives in
    # the second before. Each of its clients used to set the count back to one, and
    # the other worker's next client again, so that no limit was ever met.
    sketch = Sketch()
    for _ in range(50):
        sketch.add(100)
        sketch.add(99)
    assert sketch.add(100) == 101
    assert sketch.recent(7, 100) == 1
    assert sketch.recent(7, 99) == 2


def test_window_holds_more_than_sixteen_bits_of_clients() -> None:
    sketch = Sketch()
    for _ in range(70_000):
        last = sketch.add(9)
    assert last == 70_000


def test_threads_that_enter_and_leave_leave_nothing_behind() -> None:
    sketch = Sketch()
    start = threading.Barrier(4)

    def come_and_go(seed: int) -> None:
        start.wait()
        for number in range(2000):
            source = hash_bytes(bytes([seed, number % 7]))
            sketch.enter(source)
            sketch.leave(source)

    threads = [threading.Thread(target=come_and_go, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        for number in range(7):
            source = hash_bytes(bytes([seed, number]))
            assert sketch.enter(source) == 1
            sketch.leave(source)
