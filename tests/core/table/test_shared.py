"""Values by key that nothing but their users hold."""

from fastpath.table.delta import SHARED_LEAST, Shared


class Thing:
    """A value."""


def test_value_is_there_as_long_as_it_is_used() -> None:
    shared: Shared[str, Thing] = Shared()
    thing = shared.put("a", Thing())
    assert shared.get("a") is thing
    assert shared.get("b") is None
    del thing
    assert shared.get("a") is None


def test_keys_of_values_that_are_gone_take_no_memory() -> None:
    shared: Shared[int, Thing] = Shared()
    kept = [shared.put(n, Thing()) for n in range(3)]
    for n in range(3, 1000):
        shared.put(n, Thing())
        assert len(shared) <= SHARED_LEAST
    assert [shared.get(n) for n in range(3)] == kept
    many = [shared.put(n, Thing()) for n in range(1000, 1100)]
    assert [shared.get(n) for n in range(1000, 1100)] == many
