"""Capture without privileges."""

import logging

import pytest

from pyproxy.capture import Bind, Capture, Fronts, Layout, Tproxy
from pyproxy.model import Front, Pool, Vip


def test_ways_of_capture_are_interchangeable() -> None:
    ways: list[Capture] = [Bind(), Tproxy(Layout(1, 2))]
    assert len(ways) == 2


def test_front_that_cannot_be_as_asked_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    capture = Bind()
    plain = Front("tcp", "127.0.0.1", 80, "serve", "serve")
    limited = Front("tcp", "127.0.0.1", 81, "serve", "serve", ("10.0.0.0/8",))
    mixed = Front("udp", "127.0.0.1", 82, "serve", "drop")
    with caplog.at_level(logging.WARNING):
        capture.update(Fronts([plain, limited]))
        capture.update(Fronts([plain, limited, mixed]))
        capture.update(Fronts([mixed]))
    assert [record.__dict__["port"] for record in caplog.records] == [81, 82]
    (said,) = capture.obstacles()
    assert said.startswith("2 addresses are not dropped or limited")
    capture.update(Fronts(remove=[limited.key]))
    capture.update(Fronts([Front("udp", "127.0.0.1", 82, "reject", "reject")]))
    assert capture.obstacles() == []
    assert capture.verify() == []
    assert capture.cleanup() == []


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("192.0.2.1", False), ("::", True)],
)
def test_bind_takes_addresses_of_this_machine(host: str, is_ours: bool) -> None:
    vip = Vip(host, 80, Pool("p", ()), bind=False)
    assert Bind().takes(vip) == is_ours
    assert Tproxy(Layout(1, 2)).takes(vip)


@pytest.mark.parametrize("mark", [0, 0x10, 0x3000])
def test_mark_is_one_bit_that_leaves_room_for_classes(mark: int) -> None:
    with pytest.raises(ValueError, match="mark"):
        Layout(1, 2, mark=mark)
