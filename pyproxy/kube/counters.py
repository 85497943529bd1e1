"""What is counted here, as Prometheus families."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pyproxy.metrics import counter

if TYPE_CHECKING:
    from pyproxy.metrics import Family


class KubeCounters:
    """Restarts of watches by kind; Events that were dropped, by reason."""

    def __init__(
        self, dropped: Callable[[], Mapping[str, int]] = dict[str, int]
    ) -> None:
        """`dropped` returns those of a recorder, if there is one."""
        self._restarts: Counter[str] = Counter()
        self._dropped = dropped

    def watch_restarted(self, kind: str) -> None:
        """Count one; for `Reflector(on_restart=...)`."""
        self._restarts[kind] += 1

    def collect(self) -> "Iterator[Family]":
        """Return both."""
        restarts = counter(
            *("watch_restarts", "Watches that were begun anew, for whatever reason."),
            "kind",
        )
        for kind, count in self._restarts.items():
            restarts.add_metric([kind], count)
        yield restarts
        dropped = counter("events_dropped", "Events that were not written.", "reason")
        for reason, count in self._dropped().items():
            dropped.add_metric([reason], count)
        yield dropped
