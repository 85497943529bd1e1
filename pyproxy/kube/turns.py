"""Long work in short turns, so that it never holds the event loop."""

import asyncio
import time

TURN_S = 0.002  # between two turns, the loop reads and decrypts for as long again


class Turns:
    """When the turn is over, by the clock."""

    def __init__(self, turn_s: float = TURN_S) -> None:
        self._turn_s = turn_s
        self._ends_at = 0.0
        self.begin()

    def begin(self) -> None:
        """Begin a turn: others had theirs while we waited."""
        self._ends_at = time.perf_counter() + self._turn_s

    @property
    def is_over(self) -> bool:
        """Whether it is time to `breathe`."""
        return time.perf_counter() >= self._ends_at

    async def breathe(self) -> None:
        """Let others have their turn, and begin another one."""
        await asyncio.sleep(0)
        self.begin()
