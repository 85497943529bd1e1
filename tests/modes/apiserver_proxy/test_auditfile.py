"""The file of an audit log: moved away, full, or not to be opened."""

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyproxy.errors import StartError
from pyproxy.http.audit import Ids, Trail
from pyproxy.http.identity import User
from pyproxy.modes.apiserver_proxy import auditfile
from pyproxy.modes.apiserver_proxy.auditfile import Counts, Lines, Writer
from tests.http.test_audit import record
from tests.support.waiting import wait_until

NO_SPACE = OSError(errno.ENOSPC, "full")


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    made = Lines(str(tmp_path / "log"))
    yield made
    made.close()


def test_lines_are_appended_to_what_is_there_and_private(tmp_path: Path) -> None:
    file = tmp_path / "log"
    for text in (b"a\n", b"b\n"):
        lines = Lines(str(file))
        assert lines.append(text) == (1, "")
        lines.close()
    assert file.read_bytes() == b"a\nb\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_file_that_was_moved_away_is_opened_anew(lines: Lines, tmp_path: Path) -> None:
    file = tmp_path / "log"
    assert lines.append(b"a\n") == (1, "")
    file.rename(tmp_path / "log.1")
    assert lines.append(b"b\n") == (1, "")
    file.unlink()
    file.write_bytes(b"")
    assert lines.append(b"c\n") == (1, "")
    assert (tmp_path / "log.1").read_bytes() == b"a\n"
    assert file.read_bytes() == b"c\n"


def test_line_that_was_torn_spoils_no_other(
    lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", torn(4))
    assert lines.append(b"a\nbc\n") == (1, os.strerror(errno.ENOSPC))
    monkeypatch.undo()
    assert lines.append(b"d\n") == (1, "")
    assert (tmp_path / "log").read_bytes() == b"a\nbc\nd\n"


def torn(size: int) -> Callable[[int, bytes], int]:
    """A write(2) that takes so many bytes, and then no more."""
    real, left = os.write, [size]

    def write(fd: int, data: bytes) -> int:
        if left[0] == 0:
            raise NO_SPACE
        done = real(fd, data[: left[0]])
        left[0] -= done
        return done

    return write


def test_full_disk_is_said_once_and_counted(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    counts = Counts()
    link = tmp_path / "log"
    link.symlink_to("/dev/full")
    writer = Writer(str(link), counts, Ids())
    try:
        for _ in range(3):
            writer.take([(record(), None)])
        wait_until(lambda: counts.unwritten == 3)
        wait_until(lambda: writer.trouble.endswith(os.strerror(errno.ENOSPC)))
        link.unlink()
        writer.take([(record(), Trail(user=User("alice")))])
        wait_until(lambda: counts.written == 1)
        wait_until(lambda: writer.trouble == "")
    finally:
        writer.close()
    assert json.loads(link.read_bytes())["user"] == {"username": "alice"}
    said = [each.message for each in caplog.records]
    assert said == ["audit log not written", "audit log written again"]


def test_events_that_the_file_is_too_slow_for_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setattr(auditfile, "MOST_WAITING", 10_000)
    counts = Counts()
    writer = Writer(str(pipe), counts, Ids())
    try:
        for _ in range(5):
            writer.take([(record(), None)] * 4000)  # a pipe has room for a few hundred
        assert counts.unqueued >= 8000
        assert counts.taken + counts.unqueued == 20_000
    finally:
        os.close(reader)  # the thread gets EPIPE
        writer.close()
    assert counts.waiting == 0


def test_file_that_cannot_be_opened_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No such file"):
        Writer(str(tmp_path / "none" / "log"), Counts(), Ids())
