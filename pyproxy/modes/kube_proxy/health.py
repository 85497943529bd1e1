"""Is this node good for clients: what load balancers ask, as kube-proxy answers it.

Pure: time is given, and nothing is opened. `doors` serves what is said here.
Source: k/k pkg/proxy/healthcheck, proxy_health.go and service_health.go; KEP-3836.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from pyproxy.discovery.services import is_eligible
from pyproxy.kube.machines import Node

WEIGHT = "X-Load-Balancing-Endpoint-Weight"


class Answer(NamedTuple):
    """A response, always JSON."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = ()


class ProxyHealth:
    """Whether changes reach the table in time, and whether the Node is to stay.

    Healthy while starting: nothing waits, and no Node has been seen.
    """

    def __init__(
        self,
        timeout_s: float,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        """`now` is a clock that is never set, `wall` one for people; both in s."""
        self.timeout_s = timeout_s
        self._now, self._wall = now, wall
        self._waiting_since: float | None = None  # the oldest change not applied
        self._updated_at = 0.0  # by the clock on the wall; 0 = never
        self.eligible = True

    def queued(self) -> None:
        """Learn of a change that the table does not have yet."""
        if self._waiting_since is None:
            self._waiting_since = self._now()

    def updated(self) -> None:
        """The table has all changes."""
        self._waiting_since = None
        self._updated_at = self._wall()

    def see_node(self, node: Node) -> None:
        """Take the own Node as it is now."""
        self.eligible = is_eligible(node)

    @property
    def is_live(self) -> bool:
        """Whether no change has waited for too long."""
        since = self._waiting_since
        return since is None or self._now() - since < self.timeout_s

    def healthz(self) -> Answer:
        """Say whether new clients should come here."""
        return self._answer(self.is_live and self.eligible, eligible=self.eligible)

    def livez(self) -> Answer:
        """Say whether this program works, whatever becomes of its Node."""
        return self._answer(self.is_live)

    def _answer(self, well: bool, *, eligible: bool | None = None) -> Answer:
        now_s = self._wall()
        # As upstream: "recent" while all is well, changes or not.
        said = {
            "lastUpdated": _time(now_s if well else self._updated_at),
            "currentTime": _time(now_s),
        }
        more = {} if eligible is None else {"nodeEligible": eligible}
        return Answer(200 if well else 503, json.dumps({**said, **more}))


def service_answer(key: str, count: int, *, proxy_is_live: bool) -> Answer:
    """Return what a health port of a Service answers, at every path."""
    namespace, _, name = key.partition("/")
    body = {
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": count,
        "serviceProxyHealthy": proxy_is_live,
    }
    status = 200 if count and proxy_is_live else 503
    return Answer(status, json.dumps(body, indent="\t"), ((WEIGHT, str(count)),))


def _time(wall_s: float) -> str:
    """Write a time as Go prints one, which is what stands there upstream."""
    if not wall_s:
        return "0001-01-01 00:00:00 +0000 UTC"
    moment = datetime.fromtimestamp(wall_s, UTC).isoformat(" ", "microseconds")
    return moment.replace("+00:00", " +0000 UTC")
