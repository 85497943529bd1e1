"""What changes in sets when fronts change."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.capture import elements
from pyproxy.capture.netlink import attributes, pairs
from pyproxy.model import Access, Front, VipKey

BASE = 0x2000

hosts = st.sampled_from(["10.96.0.1", "10.96.0.2", "fd96::1", "203.0.113.9"])
networks = st.sampled_from(
    ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "192.0.2.1/32", "::/0", "fd00::/8"]
)
ACCESS: list[Access] = ["serve", "reject", "drop"]
access = st.sampled_from(ACCESS)
fronts = st.builds(
    Front,
    protocol=st.sampled_from(["tcp", "udp"]),
    host=hosts,
    port=st.sampled_from([53, 80, 443]),
    near=access,
    far=access,
    sources=st.none() | st.lists(networks, max_size=3).map(tuple),
)


class Kernel:
    """Sets as the kernel keeps them: what is out must be in, what is in must be out."""

    def __init__(self) -> None:
        self.sets: dict[str, dict[bytes, bytes]] = {}

    def change(self, what: elements.Difference) -> None:
        """Apply a difference as one transaction."""
        for name, entries in what.out.items():
            for key, _ in decoded(entries):
                del self.sets[name][key]
        for name, entries in what.into.items():
            for key, data in decoded(entries):
                assert key not in self.sets.setdefault(name, {})
                self.sets[name][key] = data

    def contents(self) -> dict[str, dict[bytes, bytes]]:
        """Sets that are not empty."""
        return {name: held for name, held in self.sets.items() if held}


def decoded(entries: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Key and data, or end, of elements."""
    return [elements.element(body) for one in entries for _, body in pairs(one)]


@given(st.lists(st.tuples(st.booleans(), fronts), max_size=40))
def test_differences_lead_to_what_a_whole_install_has(
    steps: list[tuple[bool, Front]],
) -> None:
    kernel = Kernel()
    known: dict[VipKey, Front] = {}
    for put, front in steps:
        new = {front.key: front if put else None}
        kernel.change(elements.difference(known, new, BASE))
        if put:
            known[front.key] = front
        else:
            known.pop(front.key, None)
        wanted = elements.contents(known.values(), BASE)
        assert kernel.contents() == {k: v for k, v in wanted.items() if v}


@given(st.lists(fronts, unique_by=lambda front: front.key))
def test_a_successor_reads_what_its_predecessor_wrote(known: list[Front]) -> None:
    sets = elements.contents(known, 0x40)
    found = elements.fronts_of(sets)
    assert {front.key for front in found} == {front.key for front in known}
    # Sources may be spelled otherwise; they say the same.
    assert elements.contents(found, BASE) == elements.contents(known, BASE)


@given(st.lists(fronts, min_size=1), st.booleans())
def test_elements_that_are_alike_are_read_as_others_are(
    known: list[Front], mix: bool
) -> None:
    entries = [e for f in known for e in filled(f)]
    if mix:
        entries.append(elements.entry(b"key.", b""))
    one_by_one = [elements.element(body) for e in entries for _, body in pairs(e)]
    assert elements.decoded(b"".join(entries)) == one_by_one


def filled(front: Front) -> list[bytes]:
    """All elements of a front."""
    what = elements.Difference()
    what.enter(front, BASE)
    return [entry for entries in what.into.values() for entry in entries]


@given(fronts)
def test_a_front_that_stays_as_it_is_changes_nothing(front: Front) -> None:
    same = elements.difference({front.key: front}, {front.key: front}, BASE)
    assert same == elements.Difference()


@given(st.lists(networks, max_size=6))
def test_near_networks_hold_the_addresses_that_they_should(texts: list[str]) -> None:
    # Source: sets of intervals as nft_set_rbtree reads them: a start, then an end that
    # is not part of it, flagged, or none if the interval goes to the last address.
    wanted = [ipaddress.ip_network(text) for text in texts]
    found = elements.intervals("near", texts)
    for probe in ("9.255.255.255", "10.1.2.3", "192.0.2.1", "192.0.2.2", "fd00::1"):
        address = ipaddress.ip_address(probe)
        bounds = [bound(entry) for entry in found[f"near{address.version}"]]
        # At one key an interval ends before the next one starts.
        order = [(key, not end) for key, end in bounds if key <= address.packed]
        inside = bool(order) and max(order)[1]
        assert inside == any(address in network for network in wanted)


def bound(entry: bytes) -> tuple[bytes, bool]:
    """Key of a bound, and whether it is an end."""
    ((_, body),) = pairs(entry)
    said = attributes(body)
    return attributes(said[elements.KEY])[1], elements.FLAGS in said


def test_marks_tell_classes_apart() -> None:
    marks = {
        elements.mark_of(Front("tcp", "10.0.0.1", 80, near, far, sources), BASE)
        for near in ACCESS
        for far in ACCESS
        for sources in (None, ())
    }
    assert len(marks) == 18
    for mark in marks:
        assert struct.unpack("=I", mark)[0] & ~0x1F == BASE


@pytest.mark.parametrize(
    "front",
    [
        Front("tcp", "10.96.0.1", 0, "serve", "reject"),
        Front("tcp", "10.96.0.1", 0, "reject", "serve"),
        Front("udp", "10.96.0.1", 0, "reject", "drop", ("10.0.0.0/8",)),
    ],
)
def test_all_ports_can_be_rejected_or_dropped_only(front: Front) -> None:
    with pytest.raises(ValueError, match="rejected or dropped"):
        elements.check(front)
