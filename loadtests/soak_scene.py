"""What the soak needs to know of whom it torments."""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, Self


class Rest(NamedTuple):
    """What a process holds when nobody wants anything from it."""

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
