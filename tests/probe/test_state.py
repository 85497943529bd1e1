"""Rise and fall, without clock and without I/O. The drawing: pyproxy.model.State."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.model import Backend, Pool, State
from pyproxy.probe import Pace, ProbeState, Result, health_of

LETTERS = {"r": Result.READY, "a": Result.ALIVE, "d": Result.DEAD}


def after(results: str, rise: int = 2, fall: int = 3) -> ProbeState:
    """The state after these results, one letter each."""
    state = ProbeState(rise, fall)
    for letter in results:
        state.observe(LETTERS[letter])
    return state


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ("", State.UNCHECKED),
        ("r", State.UP),  # the first result decides, as in HAProxy
        ("a", State.DRAINING),
        ("d", State.DOWN),
        ("rdd", State.UP),
        ("rddd", State.DOWN),
        ("rddrdd", State.UP),
        ("raa", State.UP),
        ("raaa", State.DRAINING),
        ("raad", State.DRAINING),  # not ready three times, dead only once
        ("rada", State.DRAINING),
        ("raaadd", State.DRAINING),
        ("raaaddd", State.DOWN),
        ("rdda", State.DRAINING),
        ("ar", State.DRAINING),
        ("arr", State.UP),
        ("arar", State.DRAINING),
        ("dr", State.DOWN),
        ("drr", State.UP),
        ("da", State.DOWN),
        ("daa", State.DRAINING),
        ("dar", State.DRAINING),
        ("darr", State.UP),
        ("drdr", State.DOWN),
    ],
)
def test_state_after_results(results: str, expected: State) -> None:
    assert after(results).state is expected


def test_single_results_suffice_where_rise_and_fall_are_one() -> None:
    assert after("rd", 1, 1).state is State.DOWN
    assert after("rda", 1, 1).state is State.DRAINING
    assert after("rdar", 1, 1).state is State.UP


@given(st.text("rad", min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_nobody_is_cut_off_without_enough_dead_results(
    results: str, rise: int, fall: int
) -> None:
    state = ProbeState(rise, fall)
    for index, letter in enumerate(results):
        before = state.state
        now = state.observe(LETTERS[letter])
        run = results[: index + 1]
        if now is State.DOWN and before not in (State.DOWN, State.UNCHECKED):
            assert run.endswith("d" * fall)
        if now is State.UP and before not in (State.UP, State.UNCHECKED):
            assert run.endswith("r" * rise)
        if before is State.UP and now is State.DRAINING:
            assert set(run[-fall:]) <= {"a", "d"}


@given(st.text("rad", max_size=20), st.sampled_from("rad"))
def test_the_same_result_again_and_again_settles(results: str, last: str) -> None:
    state = after(results + last * 5)
    expected = {"r": State.UP, "a": State.DRAINING, "d": State.DOWN}[last]
    assert (state.state, state.settled) == (expected, True)


@pytest.mark.parametrize(
    ("results", "wait_s"),
    [
        ("", 0.5),
        ("r", 2.0),
        ("rd", 0.5),
        ("rddd", 7.0),
        ("rdddr", 0.5),
        ("raaa", 2.0),
        ("raaar", 0.5),
    ],
)
def test_pace_is_fast_only_while_a_change_is_coming(
    results: str, wait_s: float
) -> None:
    pace = Pace(interval_s=2.0, fast_interval_s=0.5, down_interval_s=7.0)
    assert pace.next_wait_s(after(results)) == wait_s


def test_fast_is_never_slower_than_settled() -> None:
    pace = Pace(interval_s=0.1, fast_interval_s=0.5)
    assert pace.next_wait_s(after("rd")) == 0.1


UP, DRAINING, DOWN = State.UP, State.DRAINING, State.DOWN


@pytest.mark.parametrize(
    ("policy", "states", "expected"),
    [
        ("try", [UP, DRAINING, DOWN], ["ready", "draining", "dead"]),
        ("try", [UP, None, DOWN], ["ready", "dead", "dead"]),
        ("try", [DRAINING, DRAINING, DOWN], ["ready", "ready", "dead"]),
        ("try", [DOWN, DOWN, DOWN], ["dead", "dead", "dead"]),
        ("refuse", [DRAINING, DRAINING, DOWN], ["draining", "draining", "dead"]),
    ],
    ids=["one up", "not seen", "alive beats dead", "all dead", "refuse"],
)
def test_health_that_the_core_is_told(
    policy: str, states: list[State | None], expected: list[str]
) -> None:
    backends = tuple(Backend("10.0.0.1", port) for port in range(1, 4))
    pool = Pool("p", backends, on_all_down="try" if policy == "try" else "refuse")
    known = {
        backend.key: state
        for backend, state in zip(backends, states, strict=True)
        if state is not None
    }
    assert [*health_of([pool], known).values()] == expected


@pytest.mark.parametrize(
    ("states", "suspects", "expected"),
    [
        ([UP, UP, UP], {1}, ["draining", "ready", "ready"]),
        ([UP, UP, UP], {1, 2}, ["draining", "draining", "ready"]),
        ([UP, UP, UP], {1, 2, 3}, ["ready", "ready", "ready"]),
        ([UP, DOWN, DOWN], {1}, ["ready", "dead", "dead"]),
        ([UP, DRAINING, DOWN], {1}, ["ready", "draining", "dead"]),
    ],
    ids=["one", "two", "all: it is us", "the others are dead", "none is ready"],
)
def test_suspect_is_avoided_while_another_is_above_suspicion(
    states: list[State], suspects: set[int], expected: list[str]
) -> None:
    backends = tuple(Backend("10.0.0.1", port) for port in range(1, 4))
    pool = Pool("p", backends)
    known = {b.key: state for b, state in zip(backends, states, strict=True)}
    doubted = {b.key for b in backends if b.port in suspects}
    assert [*health_of([pool], known, doubted).values()] == expected


@pytest.mark.parametrize(
    ("results", "late", "expected"),
    [
        ("r", False, False),
        ("r", True, True),
        ("rd", False, True),
        ("rdd", False, True),
        ("rddd", True, False),  # dead: no suspicion any more
        ("ra", False, False),
        ("a", True, False),  # not ready: takes nothing anyway
        ("", True, False),
    ],
)
def test_suspect_is_up_and_silent(results: str, late: bool, expected: bool) -> None:
    state = after(results)
    state.late = late
    assert state.suspect is expected
    state.observe(Result.READY)
    assert not state.suspect


def test_backend_of_two_pools_serves_where_one_needs_it() -> None:
    shared, other = Backend("10.0.0.1", 1), Backend("10.0.0.2", 1)
    pools = [Pool("both", (shared, other)), Pool("alone", (shared,))]
    states = {shared.key: State.DRAINING, other.key: State.UP}
    assert health_of(pools, states)[shared.key] == "ready"
    assert health_of(pools[::-1], states)[shared.key] == "ready"


@pytest.mark.parametrize(
    ("hint", "expected"), [(False, State.DOWN), (True, State.UP)], ids=["fresh", "old"]
)
def test_remembered_state_counts_as_seen_unless_it_is_a_hint(
    hint: bool, expected: State
) -> None:
    # What was known a moment ago takes `rise` to change, what was long ago one result.
    state = ProbeState(rise=2, fall=3)
    state.state, state.hint = State.DOWN, hint
    assert state.known is not hint
    assert not state.settled
    assert state.observe(Result.READY) is expected
    assert state.known
    assert state.observe(Result.READY) is State.UP
