"""Is the configuration in use the one that was asked for last?

A reload that is refused changes nothing, and readiness with it: what runs, runs. But
somebody believes that the new file is in force, so it is said wherever they may look.
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pyproxy.metrics import gauge

if TYPE_CHECKING:
    from pyproxy.metrics import Family


class Reloads:
    """The outcome of the last reload; the start counts as one that succeeded."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._trouble = ""
        self._succeeded_at_s = clock()

    def succeeded(self) -> None:
        """The configuration that was read last is in force."""
        self._trouble = ""
        self._succeeded_at_s = self._clock()

    def failed(self, why: str) -> None:
        """It is not: the one before still is."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._clock()))
        self._trouble = f"refused at {moment}: {'; '.join(why.splitlines())}"

    def trouble(self) -> str | None:
        """Say why the last one was refused, None if it was not."""
        return self._trouble or None

    def collect(self) -> "Iterator[Family]":
        """Yield both families, under the names that Prometheus gives its own."""
        successful = gauge(
            "config_last_reload_successful", "1 = the last file read is in force."
        )
        successful.add_metric([], not self._trouble)
        yield successful
        moment = gauge(
            "config_last_reload_success_timestamp_seconds",
            "When a configuration last came into force.",
        )
        moment.add_metric([], self._succeeded_at_s)
        yield moment
