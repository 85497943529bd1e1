"""Which apiservers do not take connections, as far as requests have told.

They are not probed. So what was noticed holds for a while only: a balancer that sends
no requests because we are not ready must not keep us from finding out that all is well.

kubectl writes a line for each request that it cannot pass on. Here the client's answer
says why, and the log that it happened: at once, then now and then with a count.
"""

import logging
import time
from collections.abc import Callable, Collection

from pyproxy.model import Key, format_address

logger = logging.getLogger(__name__)

BELIEVED_S = 30.0
SPACED_S = 10.0  # between two lines about one address


class Reach:
    """What became of dials, from the notices of the core."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lost: dict[Key, float] = {}  # and when it last failed
        self._told: dict[Key, tuple[float, int]] = {}  # when, and failures since

    def on_notice(self, kind: str, backend: Key) -> None:
        """Take note, and say what is news."""
        if kind == "recovered":
            self._told.pop(backend, None)
            if self._lost.pop(backend, None) is not None:
                where = {"address": format_address(*backend)}
                logger.info("apiserver reached again", extra=where)
            return
        if kind == "ejected" or backend in self._lost:  # several dials in a row
            self._lost[backend] = self._now()
        if not backend[0].startswith("unix:"):  # a way through a proxy says it itself
            self._tell(backend)

    def _tell(self, backend: Key) -> None:
        told_at, failures = self._told.get(backend, (-SPACED_S, 0))
        failures += 1
        if self._now() - told_at >= SPACED_S:
            extra = {"address": format_address(*backend), "failures": failures}
            logger.warning("apiserver not reached", extra=extra)
            told_at, failures = self._now(), 0
        self._told[backend] = (told_at, failures)

    def keep(self, backends: Collection[Key]) -> None:
        """Forget what is dialed no more: its name has moved."""
        self._lost = {key: at for key, at in self._lost.items() if key in backends}

    def complaints(self) -> list[str]:
        """Return the servers that were not reached of late."""
        since = self._now() - BELIEVED_S
        lost = [key for key, failed_at in self._lost.items() if failed_at >= since]
        return [f"{format_address(*key)} takes no connections" for key in lost]
