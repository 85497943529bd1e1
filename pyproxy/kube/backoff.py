"""How long to wait before the next try."""

import random

FIRST_S, LONGEST_S, FACTOR = 0.8, 30.0, 2.0  # client-go's reflector


class Backoff:
    """Longer each time, and different for each client that lost one apiserver."""

    def __init__(
        self,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        dice: random.Random | None = None,
    ) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._dice = dice or random.Random()
        self._next_s = first_s

    def next_s(self, at_least_s: float = 0.0) -> float:
        """Return how long to wait now: between once and twice what is due."""
        due_s = max(self._next_s, at_least_s)
        self._next_s = min(self._next_s * FACTOR, self._longest_s)
        return due_s * (1 + self._dice.random())

    def reset(self) -> None:
        """Begin with short waits again."""
        self._next_s = self._first_s
