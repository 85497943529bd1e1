"""Counters under the names of kube-proxy, for dashboards and alerts that are there.

And ours, for each Service, bounded: the first Services with traffic have series of
their own, all others together are `other`. A Service that has series keeps them until
it is gone, so that no counter ever goes back.
Source of the names: k/k pkg/proxy/metrics/metrics.go.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from pyproxy.dataplane import VipStats
from pyproxy.metrics import Distribution, counter, gauge
from pyproxy.model import VipKey

if TYPE_CHECKING:
    from pyproxy.metrics import Family

# prometheus.ExponentialBuckets(0.001, 2, 15)
SYNC_BUCKETS_S = tuple(0.001 * 2**i for i in range(15))
PROGRAMMING_BUCKETS_S = (
    *(0.25, 0.5),
    *(float(n) for n in range(1, 60)),
    *(float(n) for n in range(60, 120, 5)),
    *(float(n) for n in range(120, 301, 30)),
)
MOST_SERVICES = 200  # with series of their own
OTHER = "other"
ENDED_WELL = ("closed", "idle_timeout", "reset_by_client")


class KubeProxyCounters:
    """What this agent did, as kube-proxy counts it."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._sync_time = Distribution(SYNC_BUCKETS_S)
        self._programming_time = Distribution(PROGRAMMING_BUCKETS_S)
        self._queued_at_s = self._synced_at_s = 0.0
        self._total = {"service": 0, "endpoint": 0}
        self._pending = {"service": 0, "endpoint": 0}
        self._answers: Counter[tuple[str, int]] = Counter()
        self.no_local_endpoints: Callable[[], Mapping[str, int]] = dict

    def note_change(self, *, is_slice: bool) -> None:
        """Count an object that changed."""
        kind = "endpoint" if is_slice else "service"
        self._total[kind] += 1
        self._pending[kind] += 1
        self._queued_at_s = self._wall()

    def note_sync(self, took_s: float) -> None:
        """All that changed is in the table."""
        self._sync_time.observe(took_s)
        self._synced_at_s = self._wall()
        self._pending = dict.fromkeys(self._pending, 0)

    def note_programmed(self, changed_at: str) -> None:
        """Endpoints are used that changed at that time (RFC 3339), if it is one."""
        try:
            then_s = datetime.fromisoformat(changed_at).timestamp()
        except ValueError:
            return
        self._programming_time.observe(max(0.0, self._wall() - then_s))

    def note_answer(self, name: str, status: int) -> None:
        """Count an answer of "healthz" or "livez"."""
        self._answers[name, status] += 1

    def collect(self) -> "Iterator[Family]":
        """Yield every family."""
        rules = "kubeproxy_sync_proxy_rules"
        yield _histogram(f"{rules}_duration_seconds", "Of a sync.", self._sync_time)
        yield _histogram(
            "kubeproxy_network_programming_duration_seconds",
            "From a change of endpoints to its use.",
            self._programming_time,
        )
        for name, at_s in (
            ("last_timestamp_seconds", self._synced_at_s),
            ("last_queued_timestamp_seconds", self._queued_at_s),
        ):
            yield _gauge(f"{rules}_{name}", "When.", {(): at_s})
        for kind in self._total:
            name = f"{rules}_{kind}_changes"
            yield _gauge(f"{name}_pending", "Not used yet.", {(): self._pending[kind]})
            yield _counter(name, "Seen.", {(): self._total[kind]})
        missing = {(k,): n for k, n in self.no_local_endpoints().items()}
        yield _gauge(
            f"{rules}_no_local_endpoints_total",
            "Services with a policy Local and no endpoint here.",
            missing,
            "traffic_policy",
        )
        for name in ("healthz", "livez"):
            said = {(str(s),): n for (w, s), n in self._answers.items() if w == name}
            yield _counter(f"kubeproxy_proxy_{name}", "Answers.", said, "code")


class Tally(NamedTuple):
    """Counters of a Service, over all of its vips."""

    accepted: int = 0
    failed: int = 0
    retries: int = 0
    up: int = 0
    down: int = 0

    def __add__(self, other: object) -> "Tally":
        assert isinstance(other, Tally)
        return Tally(*(a + b for a, b in zip(self, other, strict=True)))

    def since(self, before: "Tally") -> "Tally":
        """Return what was added."""
        return Tally(*(a - b for a, b in zip(self, before, strict=True)))


NOTHING = Tally()


class ServiceCounters:
    """Traffic of Services; reads the core at a scrape."""

    def __init__(
        self,
        stats: Callable[[], Mapping[VipKey, VipStats]],
        owner: Callable[[VipKey], str],
        most: int = MOST_SERVICES,
    ) -> None:
        """`owner` returns the key of the Service of a vip."""
        self._stats, self._owner, self._most = stats, owner, most
        self._seen: dict[VipKey, Tally] = {}
        self._named: dict[str, Tally] = {}
        self._other = NOTHING

    def collect(self) -> "Iterator[Family]":
        """Yield every family."""
        active = self._look()
        tallies = {**self._named, OTHER: self._other}
        accepted = counter("service_relays", "Connections accepted.", "service")
        failed = counter("service_failures", "Connections that failed.", "service")
        retries = counter("service_retries", "Connects tried elsewhere.", "service")
        moved = counter("service_bytes", "Bytes forwarded.", "service", "direction")
        now = gauge("service_relays_active", "Relays open now.", "service")
        for key, tally in tallies.items():
            accepted.add_metric([key], tally.accepted)
            failed.add_metric([key], tally.failed)
            retries.add_metric([key], tally.retries)
            moved.add_metric([key, "up"], tally.up)
            moved.add_metric([key, "down"], tally.down)
            now.add_metric([key], active[key])
        yield from (accepted, failed, retries, moved, now)

    def _look(self) -> Counter[str]:
        """Add what happened since the last look; return relays that are open now."""
        active: Counter[str] = Counter()
        seen: dict[VipKey, Tally] = {}
        alive: set[str] = set()
        for key, stats in self._stats().items():
            owner = self._owner(key)
            alive.add(owner)
            seen[key] = now = tally_of(stats)
            before = self._seen.get(key, NOTHING)
            if now.accepted < before.accepted:
                before = NOTHING  # the vip was away and came back
            name = self._name(owner, now)
            active[name] += stats.active
            if name == OTHER:
                self._other += now.since(before)
            else:
                self._named[name] += now.since(before)
        for gone in self._named.keys() - alive:
            del self._named[gone]
        self._seen = seen
        return active

    def _name(self, owner: str, tally: Tally) -> str:
        if owner in self._named:
            return owner
        if not any(tally) or len(self._named) >= self._most:
            return OTHER
        self._named[owner] = NOTHING
        return owner


class DirectCounters:
    """Connections of Services that are dialled past us; asks the kernel at a scrape."""

    def __init__(
        self, counts: Callable[[], Mapping[str, int]], most: int = MOST_SERVICES
    ) -> None:
        """`counts` returns them by the key of a Service."""
        self._counts, self._most = counts, most

    def collect(self) -> "Iterator[Family]":
        """Yield the family, if there is one."""
        counts = sorted(self._counts().items(), key=lambda pair: -pair[1])
        made = counter("service_direct", "Connections made past us.", "service")
        for key, count in counts[: self._most]:
            made.add_metric([key], count)
        if rest := sum(count for _, count in counts[self._most :]):
            made.add_metric([OTHER], rest)
        if counts:
            yield made


def tally_of(stats: VipStats) -> Tally:
    """Return what counts of a vip."""
    ended = sum(n for why, n in stats.closed.items() if why not in ENDED_WELL)
    failed = ended + sum(stats.refused.values())
    return Tally(
        stats.accepted, failed, stats.retries, stats.bytes_up, stats.bytes_down
    )


Values = Mapping[tuple[()], float] | Mapping[tuple[str], float]


def _gauge(name: str, text: str, values: Values, *labels: str) -> "Family":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, text, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _counter(name: str, text: str, values: Values, *labels: str) -> "Family":
    """`_total` is added to the name."""
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, text, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _histogram(name: str, text: str, values: Distribution) -> "Family":
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, text)
    values.add_to(family, [])
    return family
