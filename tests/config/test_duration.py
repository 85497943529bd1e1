"""Go durations. Expectations: time.ParseDuration and Duration.String of Go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.config import Seconds, SecondsOrZero, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1h", 3600),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("2us", 2e-6),
        ("2µs", 2e-6),
        ("2μs", 2e-6),
        ("10ns", 1e-8),
        ("1h2m3s4ms", 3723.004),
        ("0", 0),
        ("0s", 0),
    ],
)
def test_parse_of_a_go_duration_returns_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "30", "s", "30x", "30 s", "s30", "1m 30s", "-1s", "\u0661s", "1e3s", "1s!"],
)
def test_parse_of_anything_else_raises(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=480 * 3600 * 1000))
def test_format_is_read_back_as_the_same(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert round(parse_duration(text) * 1000) == milliseconds


@pytest.mark.parametrize("value", ["0s", 0, -1, "481h", True, None, [1], float("nan")])
def test_seconds_refuses_what_is_no_positive_time(value: object) -> None:
    with pytest.raises(ValueError, match=r"must be|expected|between"):
        Seconds.parse(value)


def test_seconds_takes_numbers_and_zero_where_it_means_off() -> None:
    assert Seconds.parse(2.5) == 2.5
    assert SecondsOrZero.parse("0") == 0.0
