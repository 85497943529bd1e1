"""Writes an audit log: records of the core in, lines of JSON out, by a thread.

A disk that is full or slow holds no request: what cannot be written is counted, and
said once. A file that was moved away is opened anew, so that logrotate needs no signal.
"""

import contextlib
import errno
import logging
import os
import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue

import msgspec

from pyproxy.dataplane import Record
from pyproxy.errors import StartError
from pyproxy.http.audit import Ids, Trail, event_of

logger = logging.getLogger(__name__)

STDOUT = "-"
MOST_WAITING = 16_384  # events that the thread has not written yet
AT_ONCE = 512  # events in one write(2)
CLOSE_S = 5.0  # for what waits, at the end

Decided = tuple[Record, Trail | None]


@dataclass(slots=True)
class Counts:
    """What became of events. Each field has one writer."""

    taken: int = 0  # the loop's: handed to the thread
    unqueued: int = 0  # likewise: not handed to it, it was too slow
    written: int = 0  # the thread's
    unwritten: int = 0  # likewise: the file took them not

    @property
    def waiting(self) -> int:
        """How many the thread has not dealt with yet."""
        return self.taken - self.written - self.unwritten


class Lines:
    """A file that lines are appended to; it may be moved away at any time."""

    def __init__(self, path: str) -> None:
        """Open it. Raise OSError."""
        self._path = path
        self._broken = False  # its last line is not whole
        self._fd = -1
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = 1 if self._path == STDOUT else os.open(self._path, flags, 0o600)

    def append(self, text: bytes) -> tuple[int, str]:
        """Write lines; return how many of them are whole, and why not all are."""
        done = 0
        try:
            self._follow()
            if self._broken:
                os.write(self._fd, b"\n")
                self._broken = False
            while done < len(text):
                done += os.write(self._fd, memoryview(text)[done:])
                self._broken = text[done - 1] != ord("\n")
        except OSError as error:
            return text.count(b"\n", 0, done), os.strerror(error.errno or errno.EIO)
        return text.count(b"\n"), ""

    def _follow(self) -> None:
        """Open the file anew if it is not the one at its path any more."""
        if self._path == STDOUT:
            return
        if self._fd != -1:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
                    return
            self.close()
        self._open()
        self._broken = False

    def close(self) -> None:
        """Close it, unless it is standard output."""
        fd, self._fd = self._fd, -1
        if fd > 2:
            os.close(fd)


class Writer:
    """Takes records in the loop's thread, and writes their events in its own."""

    def __init__(self, path: str, counts: Counts, ids: Ids) -> None:
        """Open the file. Raise StartError."""
        self.path = path
        self.trouble = ""  # why events are not written now
        self._counts = counts
        self._ids = ids
        self._queue: SimpleQueue[list[Decided] | None] = SimpleQueue()
        try:
            self._lines = Lines(path)
        except OSError as error:
            raise StartError(f"--audit-log-path: {path}: {error.strerror}") from error
        self._thread = threading.Thread(
            target=self._write_all, name="audit log", daemon=True
        )
        self._thread.start()

    def take(self, decided: list[Decided]) -> None:
        """Have events written."""
        counts = self._counts
        if counts.waiting + len(decided) > MOST_WAITING:
            counts.unqueued += len(decided)
        elif decided:
            counts.taken += len(decided)
            self._queue.put(decided)

    def close(self) -> None:
        """Write what waits, and end. Again does nothing."""
        self._queue.put(None)
        self._thread.join(CLOSE_S)  # a pipe that nobody reads takes for ever
        if not self._thread.is_alive():
            self._lines.close()

    # In the thread

    def _write_all(self) -> None:
        while (batch := self._queue.get()) is not None:
            for at in range(0, len(batch), AT_ONCE):
                some = batch[at : at + AT_ONCE]
                try:
                    self._write(some)
                except Exception:
                    self._counts.unwritten += len(some)
                    logger.exception("audit log not written", extra={"bug": True})

    def _write(self, batch: list[Decided]) -> None:
        clock_s = time.time() - time.monotonic()
        lines = [self._line(record, trail, clock_s) for record, trail in batch]
        written, why = self._lines.append(b"".join(lines))
        self._counts.written += written
        self._counts.unwritten += len(batch) - written
        if why and not self.trouble:
            extra = {"file": self.path, "why": why}
            logger.error("audit log not written", extra=extra)
        elif self.trouble and not why:
            logger.warning("audit log written again", extra={"file": self.path})
        self.trouble = f"{self.path}: {why}" if why else ""

    def _line(self, record: Record, trail: Trail | None, clock_s: float) -> bytes:
        event = event_of(record, trail, self._ids, clock_s)
        return msgspec.json.encode(event) + b"\n"
