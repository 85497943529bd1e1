"""Capture without privileges."""

import logging

import pytest

from pyproxy.capture import Bind, Capture, Layout, Tproxy
from pyproxy.model import Front


def test_ways_of_capture_are_interchangeable() -> None:
    ways: list[Capture] = [Bind(), Tproxy(Layout(1, 2))]
    assert len(ways) == 2


async def test_front_that_cannot_be_as_asked_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    capture = Bind()
    plain = Front("tcp", "127.0.0.1", 80, "serve", "serve")
    limited = Front("tcp", "127.0.0.1", 81, "serve", "serve", ("10.0.0.0/8",))
    mixed = Front("udp", "127.0.0.1", 82, "serve", "drop")
    with caplog.at_level(logging.WARNING):
        await capture.open([plain, limited])
        await capture.update([plain, limited, mixed])
        await capture.update([mixed])
    assert [record.__dict__["port"] for record in caplog.records] == [81, 82]
    (said,) = capture.obstacles()
    assert said.startswith("2 addresses are not dropped or limited")
    await capture.update([], [limited.key])
    await capture.update([Front("udp", "127.0.0.1", 82, "reject", "reject")])
    assert capture.obstacles() == []
    assert await capture.verify() == []
    assert not await capture.cleanup()


@pytest.mark.parametrize("mark", [0, 0x10, 0x3000])
def test_mark_is_one_bit_that_leaves_room_for_classes(mark: int) -> None:
    with pytest.raises(ValueError, match="mark"):
        Layout(1, 2, mark=mark)
