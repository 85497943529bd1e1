"""Slots of backends and vips: what may have which, and for how long."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.api.snapshot import Key
from fastpath.table.registry import Slots

READY, DRAINING, DEAD = 0, 1, 2
CHUNK = 64
CACHE_LINE = 64


def key(number: int) -> Key:
    """Name of a backend or vip."""
    return (f"10.0.0.{number}", 80)


def address(slots: Slots, slot: int) -> int:
    """Where the state of a backend lives."""
    return slots.backend(slot)[0]


def test_same_backend_has_one_slot_however_many_pools_name_it() -> None:
    slots = Slots()
    first = slots.take(key(1))
    assert slots.take(key(1)) == first
    slots.drop(key(1))
    assert slots.collect() == ([], []), "one pool still names it"
    slots.drop(key(1))
    assert slots.collect() == ([first], [])


def test_slot_is_not_given_out_again_before_collect() -> None:
    slots = Slots()
    first = slots.take(key(1))
    slots.drop(key(1))
    assert slots.take(key(2)) != first
    slots.collect()
    assert slots.take(key(3)) == first


def test_slot_is_not_given_out_again_while_a_relay_lives() -> None:
    slots = Slots()
    first = slots.take(key(1))
    slots.set(first, active=1)
    slots.drop(key(1))
    for _ in range(3):
        assert slots.collect() == ([], [])
    assert slots.take(key(2)) != first
    slots.set(first, active=0)
    assert slots.collect() == ([first], [])
    assert slots.take(key(3)) == first


def test_new_owner_of_a_slot_finds_nothing_of_the_old_one() -> None:
    slots = Slots()
    first = slots.take(key(1))
    slots.set(first, active=0, health=DEAD)
    slots.drop(key(1))
    slots.collect()
    assert slots.take(key(2)) == first
    assert slots.backend(first)[1] == (first, 0, READY, 0)


def test_backend_named_again_before_collect_keeps_slot_and_relays() -> None:
    slots = Slots()
    first = slots.take(key(1))
    slots.set(first, active=3)
    slots.drop(key(1))
    assert slots.take(key(1)) == first
    assert slots.collect() == ([], [])
    assert slots.backend(first)[1] == (first, 3, READY, 0)


def test_backend_named_again_without_relays_stays_as_well() -> None:
    slots = Slots()
    first = slots.take(key(1))
    slots.drop(key(1))
    assert slots.take(key(1)) == first
    assert slots.collect() == ([], [])
    assert slots.take(key(2)) != first


def test_backend_that_was_gone_for_a_table_starts_ready() -> None:
    # A live relay kept its slot, and with it the health of its former life.
    slots = Slots()
    first = slots.take(key(1))
    slots.set(first, active=1, health=DEAD)
    slots.drop(key(1))
    slots.collect()
    assert slots.take(key(1)) == first
    assert slots.backend(first)[1] == (first, 1, READY, 0)


def test_health_survives_while_one_pool_replaces_another() -> None:
    slots = Slots()
    first = slots.take(key(1))
    slots.set(first, health=DRAINING)
    slots.take(key(1))
    slots.drop(key(1))
    slots.collect()
    assert slots.backend(first)[1] == (first, 0, DRAINING, 0)


def test_backend_that_comes_and_goes_between_two_collects_is_freed_once() -> None:
    # It was noted as retired each time; the second note met a key that was no more,
    # and every apply from then on raised KeyError.
    slots = Slots()
    first = slots.take(key(1))
    for _ in range(3):
        slots.drop(key(1))
        slots.take(key(1))
    slots.drop(key(1))
    assert slots.collect() == ([first], [])
    assert slots.collect() == ([], [])


def test_states_never_move_and_share_no_cache_line() -> None:
    slots = Slots()
    homes = {}
    for number in range(5 * CHUNK):
        slot = slots.take((str(number), 1))
        assert slot == number
        homes[slot] = address(slots, slot)
        assert homes[slot] % CACHE_LINE == 0
    assert {slot: address(slots, slot) for slot in homes} == homes
    assert len(set(homes.values())) == len(homes)
    assert all(slots.backend(slot)[1] == (slot, 0, READY, 0) for slot in homes)


def test_vips_never_move_either() -> None:
    slots = Slots()
    homes = {}
    for number in range(3 * CHUNK):
        slot = slots.take_vip((str(number), 1))
        homes[slot] = slots.vip(slot)[0]
    assert {slot: slots.vip(slot)[0] for slot in homes} == homes
    assert len(homes) == 3 * CHUNK


def test_vip_gets_counters_by_source_when_it_first_limits_by_source() -> None:
    slots = Slots()
    slot = slots.take_vip(key(1))
    assert slots.vip(slot)[1] == (slot, 0, False)
    assert slots.take_vip(key(1), True) == slot
    assert slots.vip(slot)[1] == (slot, 0, True)
    # Kept for the relays that were counted, though no new one is.
    assert slots.take_vip(key(1)) == slot
    assert slots.vip(slot)[1] == (slot, 0, True)


def test_vip_keeps_slot_and_counters_until_its_last_relay_is_gone() -> None:
    slots = Slots()
    slot = slots.take_vip(key(1), True)
    slots.set_vip(slot, active=1)
    slots.drop_vip(key(1))
    assert slots.collect() == ([], [])
    assert slots.vip(slot)[1] == (slot, 1, True)
    assert slots.take_vip(key(2)) != slot
    slots.set_vip(slot, active=0)
    assert slots.collect() == ([], [slot])
    assert slots.take_vip(key(3)) == slot
    assert slots.vip(slot)[1] == (slot, 0, False)


def test_vip_named_again_before_collect_stays() -> None:
    slots = Slots()
    slot = slots.take_vip(key(1), True)
    slots.drop_vip(key(1))
    assert slots.take_vip(key(1)) == slot
    assert slots.collect() == ([], [])
    assert slots.vip(slot)[1] == (slot, 0, True)


steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "drop", "relay", "end", "collect"]), st.integers(0, 2)
    ),
    max_size=80,
)


class Model:
    """What uses each slot: users and relays by key, as the rules say."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.slot_of: dict[int, int] = {}
        self.users: dict[int, int] = {}
        self.relays: dict[int, int] = {}

    def step(self, what: str, number: int) -> None:
        known = number in self.slot_of
        if what == "take":
            self.take(number, known)
        elif what == "drop" and known and self.users[number] > 0:
            self.slots.drop(key(number))
            self.users[number] -= 1
        elif what == "relay" and known and self.users[number] > 0:
            self.count(number, 1)
        elif what == "end" and known and self.relays[number] > 0:
            self.count(number, -1)
        elif what == "collect":
            self.collect()

    def take(self, number: int, known: bool) -> None:
        slot = self.slots.take(key(number))
        if known:
            assert slot == self.slot_of[number]
        else:
            assert slot not in self.slot_of.values(), "two in one slot"
            self.slot_of[number] = slot
            self.users[number] = self.relays[number] = 0
        self.users[number] += 1

    def count(self, number: int, change: int) -> None:
        self.relays[number] += change
        self.slots.set(self.slot_of[number], active=self.relays[number])

    def collect(self) -> None:
        free = {n for n in self.slot_of if not self.users[n] and not self.relays[n]}
        freed, _ = self.slots.collect()
        assert sorted(freed) == sorted(self.slot_of[number] for number in free)
        for number in free:
            del self.slot_of[number], self.users[number], self.relays[number]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(steps)
def test_slots_are_shared_by_nobody_and_lost_to_nobody(
    steps: list[tuple[str, int]],
) -> None:
    model = Model()
    for what, number in steps:
        model.step(what, number)
        for known, slot in model.slot_of.items():
            assert model.slots.backend(slot)[1][:2] == (slot, model.relays[known])
    assert all(slot < 3 for slot in model.slot_of.values()), "free slots come first"


def test_backend_of_a_thousand_pools_comes_free_after_the_last() -> None:
    # Symptom: beyond 256 the count of users was an object; without memory for the next
    # smaller one a pool that was freed left its backends taken for good.
    slots = Slots()
    first = slots.take(key(1))
    for _ in range(999):
        assert slots.take(key(1)) == first
    for _ in range(999):
        slots.drop(key(1))
    assert slots.collect() == ([], [])
    slots.drop(key(1))
    assert slots.collect() == ([first], [])


def test_slots_leave_their_lines_in_the_middle_and_at_both_ends() -> None:
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]):
        slots = Slots()
        taken = [slots.take(key(n)) for n in range(3)]
        for n in range(3):
            slots.drop(key(n))
        for n in order:  # back out of the line of the retired
            assert slots.take(key(n)) == taken[n]
        assert slots.collect() == ([], [])
        for n in order:
            slots.drop(key(n))
        assert slots.collect() == ([taken[n] for n in order], [])
