"""What probes have found, kept in a file: a restart does not begin from nothing.

One small JSON document, replaced as a whole at changes and now and then. Nothing
depends on it: if anything is wrong with the file, the log has one line, and probes
decide as without it. From its first result on, a probe overrides the file.
"""

import asyncio
import contextlib
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated

import msgspec

from pyproxy.config import parse_address
from pyproxy.discovery.sync import Sync
from pyproxy.errors import PyproxyError
from pyproxy.model import Key, State, format_address
from pyproxy.probe import Remembered, Watched

logger = logging.getLogger(__name__)

VERSION = 1
MOST_BYTES = 16 << 20  # a hundred thousand servers; a wrong name must not fill memory
DEBOUNCE_S = 1.0  # a rack that dies is one write, not forty
REFRESH_S = 30.0  # without a change: a crash should find a fresh file

# How long the file counts like a probe. Longer than a restart takes: systemd gives a
# service 90 s to stop, and we drain for 30. Much longer, and the servers may have been
# restarted, too: then the first probe alone decides.
FRESH_S = 120.0

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _Server(msgspec.Struct, frozen=True):
    address: str
    state: State
    since: Moment  # when that state began
    known: Moment  # when a probe said so last


class _Document(msgspec.Struct, frozen=True):
    version: int
    servers: tuple[_Server, ...]
    discovered: tuple[str, ...] = ()  # HOST:PORT of apiservers


class _Version(msgspec.Struct, frozen=True):
    version: int


class StateFileError(PyproxyError):
    """The file cannot be used; never more than a line of the log."""


class StateFile:
    """The file of one process. Without a path it does nothing."""

    def __init__(
        self, path: str | None, clock: Callable[[], float] = time.time
    ) -> None:
        """Take its path, which a reload may change, and the time that others know."""
        self.path = path
        self.discovered: tuple[str, ...] = ()  # as read, or to be written
        self._clock = clock
        self._trouble = ""  # that was logged last
        self._one_at_a_time = asyncio.Lock()

    def read(self) -> dict[Key, Remembered]:
        """Return what was known; nothing if the file is not there or not usable."""
        if self.path is None:
            return {}
        try:
            content = _read(self.path)
            found = decode(content, self._clock())
            self.discovered = decode_discovered(content)
        except FileNotFoundError:
            return {}  # the first start
        except (OSError, ValueError, StateFileError) as error:
            self._log("state file not used", error)
            return {}
        hints = sum(each.hint for each in found.values())
        extra = {"file": self.path, "servers": len(found), "hints": hints}
        logger.info("state file read", extra=extra)
        return found

    async def follow(self, sync: Sync) -> None:
        """Wait until there is something to write, and write it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_S):
                await sync.changed.wait()
        await asyncio.sleep(DEBOUNCE_S)
        sync.changed.clear()
        await self.save(sync.watched)

    async def save(self, watched: Mapping[Key, Watched]) -> None:
        """Write what is known now. A file that cannot be written is logged, once."""
        async with self._one_at_a_time:  # the newest is written last
            if self.path is None:
                return
            try:
                # In a thread: a disk that hangs must not stop the probes.
                content = encode(watched, self.discovered)
                await asyncio.to_thread(_replace, self.path, content)
            except (OSError, ValueError) as error:
                self._log("state file not written", error)
            else:
                self._trouble = ""

    def _log(self, event: str, error: Exception) -> None:
        why = (error.strerror if isinstance(error, OSError) else "") or str(error)
        trouble = f"{event}, {self.path}: {why}"
        if trouble != self._trouble:
            logger.warning(event, extra={"file": self.path, "why": why})
        self._trouble = trouble


def encode(watched: Mapping[Key, Watched], discovered: tuple[str, ...] = ()) -> bytes:
    """Return the document; servers of which nothing is known are not in it."""
    servers = tuple(
        _Server(
            format_address(*key),
            each.state.state,
            _moment(each.since_s),
            _moment(each.known_s),
        )
        for key, each in watched.items()
        if each.state.state is not State.UNCHECKED
    )
    document = msgspec.json.encode(_Document(VERSION, servers, discovered))
    return msgspec.json.format(document, indent=1) + b"\n"


def decode(content: bytes, now_s: float) -> dict[Key, Remembered]:
    """Return what a document says. Raise StateFileError if it is none of ours."""
    try:
        version = msgspec.json.decode(content, type=_Version).version
        if version != VERSION:
            raise StateFileError(f"it has version {version}, this is {VERSION}")
        document = msgspec.json.decode(content, type=_Document)
        entries = [(parse_address(each.address), each) for each in document.servers]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise StateFileError(f"not a state file: {error}") from error
    return {
        (address.host, address.port): _remembered(each, now_s)
        for address, each in entries
        if each.state is not State.UNCHECKED
    }


def decode_discovered(content: bytes) -> tuple[str, ...]:
    """Return the apiservers of a document that `decode` takes. Raise ValueError."""
    discovered = msgspec.json.decode(content, type=_Document).discovered
    for text in discovered:
        if parse_address(text).is_name:
            raise ValueError(f"{text} is a name")
    return discovered


def _remembered(server: _Server, now_s: float) -> Remembered:
    known_s = server.known.timestamp()
    # From the future: the clock was set, and its age cannot be told.
    fresh = 0 <= now_s - known_s <= FRESH_S
    return Remembered(
        server.state, min(server.since.timestamp(), now_s), known_s, not fresh
    )


def obstacles(path: str) -> list[str]:
    """Say what would keep us from reading and writing the file."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        return [f"{path} is a directory"]
    if not os.path.isdir(folder):
        return [f"there is no directory {folder}"]
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(path).st_mode):
                return [f"{path} is no regular file"]  # it would be replaced
        # No question of rights alone: what is mounted there may be read-only.
        with tempfile.TemporaryFile(dir=folder):
            return []
    except OSError as error:
        return [f"{path} cannot be written by this user: {error.strerror}"]


def _read(path: str) -> bytes:
    # Not blocking: opening a named pipe would wait for a writer.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise StateFileError("not a regular file")
    with open(number, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise StateFileError(f"larger than {MOST_BYTES >> 20} MiB")
    return content


def _replace(path: str, content: bytes) -> None:
    # Not synced to disk: after a crash of the machine, an old or empty file costs no
    # more than a normal start.
    beside = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)  # of a process that was killed
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    number = os.open(beside, flags, 0o600)
    try:
        with open(number, "wb") as file:
            file.write(content)
        os.replace(beside, path)
    except OSError:
        os.unlink(beside)
        raise


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)
