"""Time as everything about an apiserver sees it; a test brings its own."""

import asyncio
import time


class Clock:
    """Two clocks: for how long something lasts, and for what others wrote down."""

    def monotonic(self) -> float:
        """Return seconds since some moment; never steps back."""
        return time.monotonic()

    def wall(self) -> float:
        """Return seconds since 1970, comparable with other machines' clocks."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after that time."""
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """Return what raises TimeoutError in its `async with` after that time."""
        return asyncio.timeout(seconds)
