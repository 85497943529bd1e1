"""Waiting without sleeping blindly: every wait names a condition and a deadline.

`PYPROXY_TEST_SCALE` stretches all deadlines at once, for slow machines and for
the sanitizer build.
"""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SCALE = float(os.environ.get("PYPROXY_TEST_SCALE", "1"))

# Short enough to be invisible in a test's time, long enough not to load the
# machine on which the thing waited for has to run.
PAUSE_S = 0.005


def scaled(seconds: float) -> float:
    """Stretch a deadline by PYPROXY_TEST_SCALE."""
    return seconds * SCALE


def wait_until(
    condition: Callable[[], T], deadline_s: float = 5.0, what: str = ""
) -> T:
    """Poll `condition` until it is true and return what it returned.

    Raises:
        AssertionError: it was still false after `deadline_s`, scaled.
    """
    end = time.monotonic() + scaled(deadline_s)
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= end:
            name = what or getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(
                f"not within {scaled(deadline_s):g} s: {name}, last {result!r}"
            )
        time.sleep(PAUSE_S)
