"""Slots are named by index and generation: a former owner does not find its slot."""

from hypothesis import given
from hypothesis import strategies as st

from fastpath.base.slab import Slab

CHUNK = 128  # slots allocated at once, see fastpath/slab.pxd


def test_slot_given_back_is_not_found_and_comes_with_another_generation() -> None:
    slab = Slab()
    index, generation = slab.take()
    assert slab.finds(index, generation)
    slab.give(index)
    assert not slab.finds(index, generation)
    assert slab.take() == (index, generation + 1)
    assert not slab.finds(index, generation)
    assert slab.finds(index, generation + 1)


def test_slot_that_never_was_is_not_found() -> None:
    slab = Slab()
    assert len(slab) == 0
    assert not slab.finds(0, 0)
    assert slab.take() == (0, 0)
    assert not slab.finds(1, 0)
    assert not slab.finds(CHUNK, 0)
    assert not slab.finds(0xFFFFFFFF, 0)


def test_many_are_taken_without_one_twice_and_memory_is_used_again() -> None:
    slab = Slab()
    taken = [slab.take() for _ in range(20 * CHUNK)]  # more than its first array holds
    assert len({index for index, _ in taken}) == len(taken) == len(slab)
    for index, _ in taken:
        slab.give(index)
    again = [slab.take() for _ in range(20 * CHUNK)]
    assert len(slab) == len(again)
    assert not set(taken) & set(again)


@given(st.lists(st.integers(0, 30)))
def test_only_what_is_live_is_found(steps: list[int]) -> None:
    # 0-9 gives one back, all others take one.
    slab = Slab()
    live: set[tuple[int, int]] = set()
    dead: set[tuple[int, int]] = set()
    for step in steps:
        if step < 10 and live:
            slot = sorted(live)[step % len(live)]
            live.remove(slot)
            dead.add(slot)
            slab.give(slot[0])
        else:
            live.add(slab.take())
    assert all(slab.finds(*slot) for slot in live)
    assert not any(slab.finds(*slot) for slot in dead)
