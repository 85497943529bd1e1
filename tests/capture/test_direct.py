"""Sets of endpoints as programs at connect(2) see them."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pyproxy.capture.direct import MOST_MEMBERS, expanded, packed, place
from pyproxy.model import Backend

weights = st.lists(st.integers(0, 500), min_size=1, max_size=40)


def shares(wanted: list[int]) -> Counter[bytes]:
    """How often each backend is in a set."""
    return Counter(
        expanded([Backend("10.0.0.1", n, weight=w) for n, w in backends(wanted)])
    )


def backends(wanted: list[int]) -> list[tuple[int, int]]:
    """Ports and weights."""
    return list(enumerate(wanted, 1))


@given(weights)
def test_shares_are_in_the_ratio_of_weights(wanted: list[int]) -> None:
    found = shares(wanted)
    total, members = sum(wanted), sum(found.values())
    assert members <= MOST_MEMBERS + len(wanted)
    for port, weight in backends(wanted):
        share = found[packed("10.0.0.1", port)]
        assert (share > 0) == (weight > 0)
        if weight:
            # Rounded to one member of the set, and never to none.
            assert (
                abs(share / members - weight / total) * members <= 1 + len(wanted) / 2
            )


@given(st.ip_addresses().map(str), st.integers(1, 65535))
def test_addresses_are_read_as_they_were_written(host: str, port: int) -> None:
    assert len(packed(host, port)) == 20
    if not host.startswith("::ffff:"):
        assert place(packed(host, port)) == (host, port)
