"""The moment after an attempt to get credentials, in which its outcome stands.

What a login gives may be over when it comes: its clock is not ours, or it took its
time. It still serves the requests that waited for it, as in client-go, and a request
right after them starts no other attempt.
"""

from pyproxy.kube.config.clock import Clock
from pyproxy.kube.config.errors import CredentialsError

PAUSE_S = 1.0


class Pause:
    """When the last attempt ended, and why it failed if it did."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends_at = float("-inf")
        self._why = ""

    def begin(self, why: str = "") -> None:
        """Note the end of an attempt, and why it gave nothing; empty = it did."""
        self._ends_at = self._clock.monotonic() + PAUSE_S
        self._why = why

    def left_s(self) -> float:
        """Return for how long its outcome still stands."""
        return max(0.0, self._ends_at - self._clock.monotonic())

    def serves_s(self) -> float:
        """Return for how long what it gave serves, whatever its expiry says."""
        return 0.0 if self._why else self.left_s()

    def holds(self) -> bool:
        """Whether no other attempt is due. Raise CredentialsError if it failed."""
        if not self.left_s():
            return False
        if self._why:
            raise CredentialsError(self._why)
        return True
