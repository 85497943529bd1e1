"""What the soak needs to know of the process under test."""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, Self

STORMERS = 3  # threads of a storm


class Rest(NamedTuple):
    """What a process holds while it is idle."""

    connections: int  # so far
    anonymous_kib: int
    descriptors: int  # without those kept for later
    wrong: str = ""  # what else is not as it should be


class Stage(Protocol):
    """A process under test, its servers, and the faults that befall them."""

    def start(self, workers: int) -> None:
        """Start everybody."""

    def phases(self) -> Sequence[tuple[Callable[[Self], None], bool]]:
        """The faults, and whether each may cost connections."""

    def client(self, number: int) -> threading.Thread:
        """One more client, at work."""

    def look(self) -> Rest:
        """Wait until the process under test is idle; say what it holds."""

    def summary(self) -> list[str]:
        """Lines for the report."""

    def close(self) -> None:
        """End all processes."""


def holds(pid: int) -> tuple[int, int]:
    """KiB of anonymous memory, and open descriptors."""
    status = Path(f"/proc/{pid}/status").read_text()
    kib = int(status.partition("RssAnon:")[2].split()[0])
    return kib, len(os.listdir(f"/proc/{pid}/fd"))


def ticks(seconds: float, pause_s: float) -> Iterator[None]:
    """Moments until so many seconds are over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(pause_s)


def at_once(work: Callable[[], None], times: int) -> None:
    """Let so many threads do the same; return when all have."""
    threads = [threading.Thread(target=work) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def reset_when_closed(connection: socket.socket) -> None:
    """Let its end be an RST instead of a FIN."""
    hard = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard)
