"""The arithmetic of a quota, with a clock of the test's own."""

import pytest

from fastpath import Forward, Quota, TableError
from fastpath.http.quota import Bucket

ROOM = 1 << 20
NOW = 1_000_000  # ms


def test_bucket_without_a_rate_stops_nobody() -> None:
    bucket = Bucket()
    bucket.charge(1 << 40, NOW)
    assert bucket.wait(NOW, ROOM) == (0, ROOM)


def test_second_may_be_moved_at_once_and_then_its_rate() -> None:
    bucket = Bucket(per_s=200_000)
    assert bucket.wait(NOW, ROOM) == (0, 200_000)
    bucket.charge(150_000, NOW)
    assert bucket.wait(NOW, ROOM) == (0, 50_000)
    bucket.charge(70_000, NOW)  # one read may go beyond
    assert bucket.wait(NOW, ROOM)[0] == 100
    assert bucket.wait(NOW + 99, ROOM)[0] == 1
    assert bucket.wait(NOW + 100, ROOM)[0] == 0
    assert bucket.wait(NOW + 350, ROOM) == (0, 50_000)
    # What was not used is lost beyond a second of it.
    assert bucket.wait(NOW + 3_600_000, ROOM) == (0, 200_000)


@pytest.mark.parametrize("per_s", [1, 1000, 65_535, 65_536, 10_000_000, 1 << 33])
def test_rate_holds_over_time(per_s: int) -> None:
    bucket, now, moved = Bucket(per_s=per_s), NOW, 0
    for _ in range(20_000):
        wait, room = bucket.wait(now, ROOM)
        if wait:
            now += wait
            continue
        bucket.charge(room, now)
        moved += room
    least = max(per_s, 65_536)
    allowed = least + per_s * (now - NOW) / 1000
    assert moved <= allowed + ROOM
    if now > NOW:
        assert moved >= min(allowed - least, per_s * (now - NOW) / 1000) * 0.9


def test_slow_bucket_lets_64_kib_go_at_once() -> None:
    bucket = Bucket(per_s=100)
    assert bucket.wait(NOW, ROOM) == (0, 65_536)
    bucket.charge(65_636, NOW)
    assert bucket.wait(NOW, ROOM)[0] == 1000
    assert bucket.wait(NOW + 1000, ROOM)[0] == 0
    bucket.charge(1_000_000, NOW)
    assert bucket.wait(NOW, ROOM)[0] == 1000  # then it is looked at again


def test_places_are_taken_and_given_back() -> None:
    bucket = Bucket(most=2)
    assert [bucket.enter() for _ in range(4)] == [True, True, False, False]
    bucket.leave()
    assert [bucket.enter(), bucket.enter()] == [True, False]


def test_bucket_with_a_debt_is_not_forgotten() -> None:
    bucket = Bucket(per_s=1000)
    assert bucket.is_idle(NOW)
    bucket.charge(1000, NOW)
    assert not bucket.is_idle(NOW + 999)
    assert bucket.is_idle(NOW + 1000)


@pytest.mark.parametrize(
    "said",
    [
        {"name": 1},
        {"name": "a", "concurrent": -1},
        {"name": "a", "concurrent": 1 << 32},
        {"name": "a", "bytes_per_s": (1 << 33) + 1},
        {"name": "a", "bytes_per_s": 1.5},
    ],
)
def test_odd_quota_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(TableError):
        Quota(**said)  # type: ignore[arg-type]


def test_quota_is_part_of_what_a_verdict_is() -> None:
    assert Forward("up", quota=Quota("a")) != Forward("up", quota=Quota("b"))
    assert hash(Forward("up", quota=Quota("a"))) == hash(
        Forward("up", quota=Quota("a"))
    )
