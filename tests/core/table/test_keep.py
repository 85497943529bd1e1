"""Changes of dicts: all of them, or none."""

from typing import Any

import pytest

from fastpath.table.keep import keep

OLD: dict[Any, Any] = {"a": 1, "b": 2, "c": 3}
CHANGES: dict[Any, Any] = {"a": None, "b": 20, "d": 40, "e": None}


class Odd:
    """A key that takes the place of a fault: it cannot be hashed the second time."""

    def __init__(self) -> None:
        self.asked = 0

    def __hash__(self) -> int:
        self.asked += 1
        if self.asked > 2:
            raise MemoryError
        return 1


def test_changes_are_kept_in_every_dict() -> None:
    one, other = dict(OLD), dict(OLD)
    keep([(one, CHANGES), (other, {"a": 10})])
    assert one == {"b": 20, "c": 3, "d": 40}
    assert other == {"a": 10, "b": 2, "c": 3}


def test_dicts_are_as_before_when_one_of_the_changes_fails() -> None:
    one, other = dict(OLD), dict(OLD)
    last = {"a": None, "b": 21, "x": 1, Odd(): 1, "y": 1}
    with pytest.raises(MemoryError):
        keep([(one, CHANGES), (other, last)])
    assert one == other == OLD
