"""Child processes of a benchmark: pinned, and gone when the benchmark is gone."""

import contextlib
import ctypes
import os
import resource
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def raise_descriptor_limit() -> int:
    """Lift this process's soft limit to the hard one; children inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def before_exec(cores: Sequence[int] | None) -> Callable[[], None]:
    """What a child does between fork and exec: pin itself, follow its parent's end."""

    def prepare() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if cores is not None:
            os.sched_setaffinity(0, cores)

    return prepare


class Process:
    """One child and its descendants; a context manager that ends them."""

    def __init__(
        self, command: Sequence[str], cores: Sequence[int] | None, log: Path
    ) -> None:
        self.log = log
        with log.open("ab") as errors:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                bufsize=1,
                preexec_fn=before_exec(cores),
            )

    @property
    def pids(self) -> list[int]:
        """The child and all its descendants, as of now."""
        return [self.child.pid, *descendants(self.child.pid)]

    def line(self) -> str:
        """Next line of the child's standard output."""
        assert self.child.stdout is not None
        text = self.child.stdout.readline()
        if not text:
            raise RuntimeError(f"child ended early: {self.log.read_text()[-2000:]}")
        return text.strip()

    def tell(self, command: str) -> None:
        """Write one line to the child's standard input."""
        assert self.child.stdin is not None
        self.child.stdin.write(command + "\n")

    def wait_listening(self, port: int, timeout_s: float = 20.0) -> None:
        """Return once something accepts on `port`."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self.child.poll() is not None:
                raise RuntimeError(f"child ended: {self.log.read_text()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        """End the child; one that does not end in time is killed, by its id."""
        family = self.pids
        self.child.terminate()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            for pid in family:
                if parent_of(pid) in family or pid == self.child.pid:
                    os.kill(pid, signal.SIGKILL)
            self.child.wait()
        for stream in (self.child.stdin, self.child.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def parent_of(pid: int) -> int:
    """Parent's id, 0 for a process that is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def descendants(pid: int) -> list[int]:
    """Children of every thread of `pid`, and theirs."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *descendants(child)]
    return found


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port on which nothing listens. Port 0 is better where it can be.

    Below the ports that the kernel gives to clients (ip_local_port_range, from 32768):
    one of those is taken again before a program that was told it can bind.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = secrets.randbelow(20_000) + 10_000  # hypothesis seeds `random`
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port
