"""What happened when, and how much there was at most: for the live page.

Events are the log lines of changes, kept whatever the level of the log is; there is
none per connection, so a short list reaches far back.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from pyproxy import __version__
from pyproxy.dataplane import Stats
from pyproxy.logs import ACCESS, data_of

MOST_EVENTS = 200
_OURS = logging.getLogger("pyproxy")


class Events(logging.Handler):
    """The newest log lines of this program, as data."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[dict[str, object]] = deque(maxlen=MOST_EVENTS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line; not those of exchanges, which are many and may be private."""
        if record.name == ACCESS:
            return
        data = {name: str(value) for name, value in data_of(record).items()}
        self._lines.append(
            {
                "time": round(record.created, 3),
                "level": record.levelname.lower(),
                "event": record.getMessage(),
                "data": data,
            }
        )

    def newest_first(self) -> list[dict[str, object]]:
        """Return the lines."""
        return list(reversed(self._lines))


class History:
    """Of one process, from its start."""

    def __init__(self) -> None:
        self.events = Events()
        self.started_at_s = time.time()
        self._before: tuple[float, int, int] | None = None
        self._peaks = {"relaysActive": 0.0, "newPerS": 0.0, "bytesPerS": 0.0}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Take note of log lines for the time of the body."""
        _OURS.addHandler(self.events)
        try:
            yield
        finally:
            _OURS.removeHandler(self.events)

    def sample(self, stats: Stats) -> None:
        """Look at the counters, now and then; peaks are of what was seen."""
        moved = sum(w.bytes_copied + w.bytes_spliced for w in stats.workers)
        now = (time.monotonic(), stats.relays_total, moved)
        self._raise("relaysActive", stats.relays_active)
        if self._before is not None and now[0] > self._before[0]:
            span_s = now[0] - self._before[0]
            self._raise("newPerS", (now[1] - self._before[1]) / span_s)
            self._raise("bytesPerS", (now[2] - self._before[2]) / span_s)
        self._before = now

    def facts(self) -> dict[str, object]:
        """Return version, start and peaks."""
        return {
            "version": __version__,
            "startedAt": round(self.started_at_s, 3),
            "peaks": {name: round(value, 1) for name, value in self._peaks.items()},
        }

    def _raise(self, name: str, value: float) -> None:
        self._peaks[name] = max(self._peaks[name], value)
