"""An open admin address and what stands behind it, for tests."""

import asyncio
import http.client
from dataclasses import dataclass, field

from pyproxy.admin import Collector, Health, History
from pyproxy.dataplane import Dataplane
from pyproxy.model import Key
from pyproxy.probe import Finding, Pace, ProbeState, Result, Target, Watched
from tests.support.waiting import scaled

DEAD: Key = ("10.0.0.9", 6443)


@dataclass
class Office:
    """An open admin address and what stands behind it."""

    where: str
    health: Health
    dataplane: Dataplane
    collector: Collector
    history: History
    watched: dict[Key, Watched] = field(default_factory=dict)

    async def get(
        self, path: str, method: str = "GET", host: str | None = None
    ) -> tuple[int, str, dict[str, str]]:
        """Ask; returns status, body, headers."""
        return await asyncio.to_thread(self._get, path, method, host)

    def _get(
        self, path: str, method: str, host: str | None
    ) -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection(self.where, timeout=scaled(5))
        try:
            headers = {"Host": host} if host else {}
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())
        finally:
            connection.close()


def watch(key: Key, result: Result) -> Watched:
    """What the checker would know after one result."""
    state = ProbeState(2, 3)
    state.observe(result)
    target = Target(key, key[0], "http", 1.0)
    return Watched(target, Pace(), state, Finding(result, f"was {result}", 0.0123))
