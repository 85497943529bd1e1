"""Which apiservers do not take connections, as far as requests have told.

They are not probed. So what was noticed holds for a while only: a balancer that sends
no requests because we are not ready must not keep us from finding out that all is well.
"""

import logging
import time
from collections.abc import Callable, Collection

from pyproxy.model import Key, format_address

logger = logging.getLogger(__name__)

BELIEVED_S = 30.0


class Reach:
    """What became of dials, from the notices of the core."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lost: dict[Key, float] = {}  # and when it last failed

    def on_notice(self, kind: str, backend: Key) -> None:
        """Take note, and log what is new."""
        where = {"address": format_address(*backend)}
        if kind == "recovered":
            if self._lost.pop(backend, None) is not None:
                logger.info("apiserver reached again", extra=where)
        elif backend in self._lost:
            self._lost[backend] = self._now()
        elif kind == "ejected":  # several dials in a row
            self._lost[backend] = self._now()
            logger.warning("apiserver not reached", extra=where)

    def keep(self, backends: Collection[Key]) -> None:
        """Forget what is dialed no more: its name has moved."""
        self._lost = {key: at for key, at in self._lost.items() if key in backends}

    def complaints(self) -> list[str]:
        """Return the servers that were not reached of late."""
        since = self._now() - BELIEVED_S
        lost = [key for key, failed_at in self._lost.items() if failed_at >= since]
        return [f"{format_address(*key)} takes no connections" for key in lost]
