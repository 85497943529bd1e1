"""Time as credentials see it; a test brings its own."""

import time


class Clock:
    """Two clocks: for how long something lasts, and for what others wrote down."""

    def monotonic(self) -> float:
        """Return seconds since some moment; never steps back."""
        return time.monotonic()

    def wall(self) -> float:
        """Return seconds since 1970, comparable with other machines' clocks."""
        return time.time()
