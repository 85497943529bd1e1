"""This process: the file of its settings, and when the kernel is to end it."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from pyproxy.stamp import stamp

logger = logging.getLogger(__name__)

POLL_S = 2.0  # how often the file is looked at
RARELY = 100_000, 50, 100  # see gc.set_threshold; 700, 10, 10 as a rule


class ConfigFile:
    """The file of the configuration."""

    def __init__(self, name: str, on_change: Callable[[], None]) -> None:
        self._name, self._on_change = name, on_change
        self._before = stamp(name)

    async def look(self) -> None:
        """Look once, after a while."""
        await asyncio.sleep(POLL_S)
        now = stamp(self._name)
        if now not in (self._before, None):  # None: while it is written anew
            self._before = now
            self._on_change()


def apply_oom_score(score: int | None) -> None:
    """Tell the kernel whom to end first; without the right to, it stays as it is."""
    if not score:
        return
    try:
        Path("/proc/self/oom_score_adj").write_text(str(score))
    except OSError as error:
        extra = {"score": score, "why": error.strerror}
        logger.warning("oom score not set", extra=extra)


@contextlib.contextmanager
def rare_gc() -> Iterator[None]:
    """Look for garbage rarely inside; what is there afterwards stays for good.

    A whole cluster comes in at once, as millions of objects, none of them garbage: to
    look through all of them again and again takes a third of a cold start.
    """
    before = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*before)
