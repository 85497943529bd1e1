"""Pins: found for as long as they hold, bounded, the longest unused make room."""

from hypothesis import given
from hypothesis import strategies as st

from fastpath.base.affinity import Affinity

HOUR = 3600


def mixed(number: int) -> int:
    """A good hash of a number: splitmix64."""
    z = (number * 0x9E3779B97F4A7C15) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


def test_pin_holds_until_its_time_after_the_last_use_is_over() -> None:
    table = Affinity(64)
    assert table.find(7, 1000, HOUR) is None
    table.keep(7, 3, 1000)
    assert table.find(7, 1000 + HOUR, HOUR) == 3
    assert table.find(7, 1000 + HOUR + 1, HOUR) is None
    table.keep(7, 3, 1000 + HOUR)
    assert table.find(7, 1000 + 2 * HOUR, HOUR) == 3


def test_new_pin_of_a_key_replaces_the_old_one_and_no_other() -> None:
    table = Affinity(64)
    assert not table.keep(7, 3, 1000)
    assert not table.keep(7, 4, 1001)
    assert table.find(7, 1001, HOUR) == 4


def test_worker_whose_clock_is_behind_finds_a_pin_all_the_same() -> None:
    table = Affinity(64)
    table.keep(7, 3, 1001)
    assert table.find(7, 1000, 1) == 3


def test_pins_of_before_the_clock_wrapped_are_found() -> None:
    table, wrap = Affinity(64), 1 << 22
    table.keep(7, 3, wrap - 2)
    assert table.find(7, wrap + 3, 10) == 3
    assert table.find(7, wrap + 30, 10) is None


def test_longest_unused_of_a_full_set_makes_room() -> None:
    table = Affinity(8)  # one set
    keys = [number << 42 | 5 for number in range(1, 10)]
    for second, key in enumerate(keys[:8]):
        assert not table.keep(key, second, 100 + second)
    table.keep(keys[0], 0, 200)  # used again
    assert table.keep(keys[8], 8, 201)
    assert table.find(keys[1], 201, HOUR) is None
    assert [table.find(key, 201, HOUR) for key in (keys[0], *keys[2:])] == [
        0, 2, 3, 4, 5, 6, 7, 8,
    ]  # fmt: skip


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 2**20 - 1), st.integers(0, 50))
    )
)
def test_table_with_room_is_a_dict_with_times(
    uses: list[tuple[int, int, int]],
) -> None:
    table, model, now = Affinity(4096), dict[int, tuple[int, int]](), 1
    for number, slot, pause in uses:
        now += pause
        key = mixed(number + 1)
        found = model.get(key)
        fresh = found is not None and now - found[1] <= 30
        assert table.find(key, now, 30) == (found[0] if found and fresh else None)
        table.keep(key, slot, now)
        model[key] = (slot, now)
