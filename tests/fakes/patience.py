"""`wait_until` for asyncio."""

import asyncio
from collections.abc import Callable

from tests.support.waiting import scaled


async def until(
    condition: Callable[[], object], deadline_s: float = 5.0, pause_s: float = 0.005
) -> None:
    """Give way to other tasks until `condition` holds."""
    end = asyncio.get_running_loop().time() + scaled(deadline_s)
    while not condition():
        assert asyncio.get_running_loop().time() < end, f"not within {deadline_s} s"
        await asyncio.sleep(pause_s)
