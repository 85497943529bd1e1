"""What the process holds: descriptors, threads, children. Read from /proc.

Threads are read there, too, because the workers of the core are none of Python's.
"""

import gc
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.support.waiting import wait_until

# What third parties keep for good once they were used: not ours to close.
KEPT_FDS = ("/dev/urandom",)
# uvloop's pool for getaddrinfo, which never ends, and that of an asyncio loop, which
# pytest-asyncio ends after our last look.
KEPT_THREADS = ("libuv-worker", "asyncio_")
KEPT_CHILDREN = ("resource_tracker", "forkserver")  # of multiprocessing


class Holdings(NamedTuple):
    """What was open at one moment, each with a name to show."""

    fds: dict[int, str]
    threads: dict[int, str]
    children: dict[int, str]

    @classmethod
    def now(cls) -> "Holdings":
        """Take stock of this process."""
        return cls(_fds(), _threads(), _children())

    def new_in(self, later: "Holdings") -> list[str]:
        """Name what `later` holds and this did not, less what is known to stay."""
        # A number that names another file now was closed and taken again.
        same = {fd: name for fd, name in self.fds.items() if later.fds.get(fd) == name}
        return [
            *_new("descriptor", same, later.fds, KEPT_FDS),
            *_new("thread", self.threads, later.threads, KEPT_THREADS),
            *_new("child process", self.children, later.children, KEPT_CHILDREN),
        ]


def lost_since(before: Holdings) -> list[str]:
    """Name the standard streams that were closed since: nothing here owns one."""
    now = _fds()
    return [f"descriptor {fd}" for fd in range(3) if fd in before.fds and fd not in now]


def leaked_since(before: Holdings, deadline_s: float = 3.0) -> list[str]:
    """Name what is still held after `deadline_s`: closing may take a moment."""
    leaked = before.new_in(Holdings.now())
    if not leaked:
        return []
    gc.collect()  # cycles hold sockets of tests that failed, and of asyncio
    try:
        wait_until(lambda: not before.new_in(Holdings.now()), deadline_s)
    except AssertionError:
        return before.new_in(Holdings.now())
    return []


def _new(
    kind: str, old: dict[int, str], new: dict[int, str], kept: Iterable[str]
) -> list[str]:
    return [
        f"{kind} {number} ({name})"
        for number, name in sorted(new.items())
        if number not in old and not any(word in name for word in kept)
    ]


def _fds() -> dict[int, str]:
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            continue  # the one that listed the directory
    return found


def _threads() -> dict[int, str]:
    named = {thread.native_id: thread.name for thread in threading.enumerate()}
    found = {}
    for entry in Path("/proc/self/task").iterdir():
        try:
            comm = (entry / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
        found[int(entry.name)] = f"{comm} {named.get(int(entry.name), 'not Python')}"
    return found


def _children() -> dict[int, str]:
    found = {}
    for entry in Path("/proc/self/task").iterdir():
        try:
            pids = (entry / "children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended meanwhile
        for pid in pids:
            found[int(pid)] = _command(pid)
    return found


def _command(pid: str) -> str:
    try:
        words = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return "ended"
    return b" ".join(words).decode(errors="replace").strip() or "zombie"
