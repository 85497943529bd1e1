"""The index of flows against a dict."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastpath.udp.index import FlowIndex

HOSTS = st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "::1"])
PORTS = st.integers(1, 40)
KEYS = st.tuples(HOSTS, PORTS, HOSTS, st.sampled_from([53, 443]))


class IndexMachine(RuleBasedStateMachine):
    """Flows come and go; with few bits of hash, searches pass by others."""

    bits = 32

    def __init__(self) -> None:
        super().__init__()
        self.index = FlowIndex(7, self.bits)
        self.model: dict[tuple[str, int, str, int], int] = {}
        self.given = 0

    @rule(key=KEYS)
    def toggle(self, key: tuple[str, int, str, int]) -> None:
        if key in self.model:
            self.index.drop(key)
            del self.model[key]
        else:
            self.index.put(key)
            self.model[key] = self.given
            self.given += 1

    @rule(keys=st.lists(KEYS, unique=True, min_size=100, max_size=300))
    def many(self, keys: list[tuple[str, int, str, int]]) -> None:
        for key in keys:
            self.toggle(key)

    @rule(key=KEYS)
    def look(self, key: tuple[str, int, str, int]) -> None:
        assert self.index.find(key) == self.model.get(key)

    @invariant()
    def all_are_found(self) -> None:
        assert len(self.index) == len(self.model)
        for key, number in self.model.items():
            assert self.index.find(key) == number


class CrowdedMachine(IndexMachine):
    """Sixteen hashes for all."""

    bits = 4


TestIndex = IndexMachine.TestCase
TestCrowded = CrowdedMachine.TestCase


@given(KEYS, KEYS, st.integers(0, 2**64 - 1))
def test_keys_that_differ_are_told_apart(
    one: tuple[str, int, str, int], other: tuple[str, int, str, int], secret: int
) -> None:
    index = FlowIndex(secret)
    index.put(one)
    assert (index.find(other) is not None) == (one == other)
