"""What is said of an apiserver that takes no connections, and for how long."""

import pytest

from pyproxy.modes.kubectl_proxy.reach import BELIEVED_S, SPACED_S, Reach
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.live

ONE = ("10.0.0.1", 6443)
LOST = ["10.0.0.1:6443 takes no connections"]


@pytest.fixture
def clock() -> FakeClock:
    """Time."""
    return FakeClock()


@pytest.fixture
def reach(clock: FakeClock) -> Reach:
    """Nothing is known yet."""
    return Reach(clock.monotonic)


def test_address_that_is_dialed_no_more_is_forgotten(reach: Reach) -> None:
    reach.on_notice("ejected", ONE)
    reach.keep({ONE})
    assert reach.complaints() == LOST
    reach.keep({("10.0.0.2", 6443)})
    assert reach.complaints() == []


def test_single_failure_is_no_reason_to_be_red(reach: Reach) -> None:
    reach.on_notice("connect-failed", ONE)
    assert reach.complaints() == []


def test_each_failure_is_told_but_not_by_a_line_of_its_own(
    reach: Reach, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    # Symptom: only the client's 500 said so; kubectl prints to stderr.
    def told() -> list[int]:
        return [vars(each)["failures"] for each in caplog.records]

    reach.on_notice("connect-failed", ONE)
    assert told() == [1]
    for _ in range(500):
        reach.on_notice("connect-failed", ONE)
    assert told() == [1]
    clock.now += SPACED_S
    reach.on_notice("connect-failed", ONE)
    assert told() == [1, 501]
    reach.on_notice("connect-failed", ("10.0.0.2", 6443))
    assert told() == [1, 501, 1]
    reach.on_notice("connect-failed", ("unix:/tmp/way", 1))
    assert told() == [1, 501, 1]


def test_outage_is_said_once(reach: Reach, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for kind in ("ejected", "connect-failed", "ejected"):
        reach.on_notice(kind, ONE)
    assert reach.complaints() == LOST
    for _ in range(2):
        reach.on_notice("recovered", ONE)
    assert reach.complaints() == []
    said = [(each.levelname, each.getMessage()) for each in caplog.records]
    assert said == [
        ("WARNING", "apiserver not reached"),
        ("INFO", "apiserver reached again"),
    ]


def test_outage_that_nobody_meets_any_more_is_not_believed(
    reach: Reach, clock: FakeClock
) -> None:
    reach.on_notice("ejected", ONE)
    clock.now += BELIEVED_S
    reach.on_notice("connect-failed", ONE)
    clock.now += BELIEVED_S
    assert reach.complaints() == LOST
    clock.now += 1.0
    assert reach.complaints() == []
