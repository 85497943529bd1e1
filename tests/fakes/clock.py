"""Time that moves when a test says so."""

from pyproxy.kube.config import Clock


class FakeClock(Clock):
    """Both clocks begin at a round number and move together."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        """Return the fake time."""
        return self.now

    def wall(self) -> float:
        """Return the fake time."""
        return self.now
