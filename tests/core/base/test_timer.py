"""The timer wheel against a model of it: a dictionary of deadlines."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastpath.base.timer import Wheel

TICK_MS = 64
SLOTS = 1024
TURN_MS = TICK_MS * SLOTS
START_MS = 1_000_000_007  # a machine that has been up for a while, between two ticks

# Spans that meet a slot next door, one at the end of the turn, and one turns away.
spans_ms = st.one_of(
    st.integers(0, 3 * TICK_MS),
    st.integers(TURN_MS - 2 * TICK_MS, TURN_MS + 2 * TICK_MS),
    st.integers(0, 20 * TURN_MS),
    st.sampled_from([TICK_MS, TURN_MS, 2 * TURN_MS, 1 << 31, 1 << 40]),
)
numbers = st.integers(0, 11)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), numbers, spans_ms),
        st.tuples(st.just("arm-past"), numbers, spans_ms),
        st.tuples(st.just("disarm"), numbers, st.just(0)),
        st.tuples(st.just("sleep"), st.just(0), spans_ms),
        st.tuples(st.just("pop"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class Model:
    """What the wheel promises, by looking at every timer each time."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.tick = now_ms // TICK_MS  # of the last pop
        self.deadlines: dict[int, int] = {}
        self.due_by: dict[int, int] = {}  # when a pop must give it out

    def arm(self, number: int, deadline_ms: int) -> None:
        self.deadlines[number] = deadline_ms
        tick = max(-(-deadline_ms // TICK_MS), self.tick + 1)
        self.due_by[number] = tick * TICK_MS

    def disarm(self, number: int) -> None:
        self.deadlines.pop(number, None)
        self.due_by.pop(number, None)

    def check_popped(self, popped: list[int]) -> None:
        self.tick = self.now_ms // TICK_MS
        assert len(set(popped)) == len(popped), "one popped twice"
        for number in popped:
            assert self.deadlines[number] <= self.now_ms, "too early"
            self.disarm(number)
        late = [n for n, due_ms in self.due_by.items() if due_ms <= self.now_ms]
        assert not late, "due by more than a tick"

    def check_wait(self, wait_ms: int) -> None:
        if not self.due_by:
            return  # it may wake once more for a timer that was disarmed
        next_ms = min(self.due_by.values())
        assert 0 <= wait_ms <= max(0, next_ms - self.now_ms), "overslept"


def run_step(wheel: Wheel, model: Model, step: tuple[str, int, int]) -> None:
    """Do one thing to both."""
    what, number, span_ms = step
    if what.startswith("arm"):
        past = what == "arm-past"
        deadline_ms = max(0, model.now_ms + (-span_ms if past else span_ms))
        wheel.arm(number, deadline_ms)
        model.arm(number, deadline_ms)
    elif what == "disarm":
        wheel.disarm(number)
        model.disarm(number)
    elif what == "sleep":
        model.now_ms += span_ms
    else:
        model.check_popped(wheel.pop(model.now_ms))


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(START=st.integers(START_MS, START_MS + 2 * TURN_MS), steps=steps)
@example(START=START_MS, steps=[("arm", 0, TURN_MS + 1), ("sleep", 0, 1 << 40)])
def test_wheel_does_what_a_list_of_deadlines_would(
    START: int, steps: list[tuple[str, int, int]]
) -> None:
    wheel, model = Wheel(START), Model(START)
    for step in steps:
        run_step(wheel, model, step)
        model.check_wait(wheel.wait_ms(model.now_ms))
    model.now_ms += 1 << 41
    model.check_popped(wheel.pop(model.now_ms))
    assert not model.deadlines, "never popped"
    assert wheel.wait_ms(model.now_ms) == -1


@settings(max_examples=150, deadline=None)
@given(
    start_ms=st.integers(START_MS, START_MS + TURN_MS),
    spans=st.lists(st.integers(0, 5 * TURN_MS), min_size=1, max_size=8),
)
def test_who_sleeps_as_told_is_in_time_and_seldom_woken_for_nothing(
    start_ms: int, spans: list[int]
) -> None:
    wheel = Wheel(start_ms)
    deadlines = {number: start_ms + span for number, span in enumerate(spans)}
    for number, deadline_ms in deadlines.items():
        wheel.arm(number, deadline_ms)
    now_ms, wakes = start_ms, 0
    while deadlines:
        wait_ms = wheel.wait_ms(now_ms)
        assert wait_ms >= 0
        now_ms += wait_ms
        wakes += 1
        for number in wheel.pop(now_ms):
            deadline_ms = deadlines.pop(number)
            assert deadline_ms <= now_ms <= max(deadline_ms, start_ms) + TICK_MS
    # Once each, and once a turn for each that is further away than that.
    assert wakes <= sum(1 + span // TURN_MS for span in spans) + 1


def test_empty_wheel_has_nothing_to_wait_for() -> None:
    assert Wheel(START_MS).wait_ms(START_MS) == -1
    assert Wheel(START_MS).pop(START_MS + (1 << 40)) == []


def test_wake_up_for_a_disarmed_timer_is_the_last_one() -> None:
    wheel = Wheel(0)
    wheel.arm(1, 1000)
    wheel.disarm(1)
    now_ms = wheel.wait_ms(0)
    assert wheel.pop(now_ms) == []
    assert wheel.wait_ms(now_ms) == -1


def test_rearming_moves_a_timer_and_leaves_no_second_one() -> None:
    wheel = Wheel(0)
    for deadline_ms in (100, 5000, 70_000, 1000):
        wheel.arm(1, deadline_ms)
    assert wheel.pop(999) == []
    assert wheel.pop(1000 + TICK_MS) == [1]
    assert wheel.pop(1 << 40) == []


def test_disarm_is_fine_with_a_timer_that_is_not_armed() -> None:
    wheel = Wheel(0)
    wheel.disarm(3)
    wheel.arm(3, 10)
    wheel.disarm(3)
    wheel.disarm(3)
    assert wheel.pop(1 << 40) == []


def test_timer_further_than_a_turn_stays_when_its_slot_comes_by() -> None:
    wheel = Wheel(0)
    wheel.arm(1, 3 * TURN_MS + 640)
    for turn in range(3):
        assert wheel.pop(turn * TURN_MS + 640) == []
    assert wheel.pop(3 * TURN_MS + 640) == [1]


def test_those_of_one_slot_come_in_the_order_they_were_armed() -> None:
    wheel = Wheel(0)
    for number in (5, 3, 9, 1):
        wheel.arm(number, 640)
    assert wheel.pop(640) == [5, 3, 9, 1]


def test_clock_that_goes_back_fires_nothing_and_breaks_nothing() -> None:
    # CLOCK_MONOTONIC does not; a caller with an old `now` might.
    wheel = Wheel(10 * TURN_MS)
    wheel.arm(1, 10 * TURN_MS + 100)
    assert wheel.pop(0) == []
    assert wheel.pop(10 * TURN_MS + 100 + TICK_MS) == [1]
