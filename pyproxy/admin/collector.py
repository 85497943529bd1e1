"""The core's counters and the probes' findings as Prometheus families."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pyproxy.admin.web import web_families
from pyproxy.dataplane import BackendStats, Dataplane, Histogram, Stats, VipStats
from pyproxy.metrics import (
    APPLY_BUCKETS_S,
    PROBE_BUCKETS_S,
    Distribution,
    build_info,
    counter,
    cumulative,
    gauge,
    histogram,
)
from pyproxy.model import Key, State, format_address
from pyproxy.probe import Finding, Result

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily

    from pyproxy.metrics import Family

_KEEP_EVERY = 4

States = Callable[[], dict[Key, State]]


class Collector:
    """Reads everything at the moment of the scrape; counting costs the path nothing."""

    def __init__(self, mode: str, dataplane: Callable[[], Dataplane]) -> None:
        """Take the core as a function: it may not run yet."""
        self._mode = mode
        self._dataplane = dataplane
        self.states: States = dict
        self._probe_time: dict[Key, Distribution] = {}
        self._probe_results: dict[tuple[Key, Result], int] = {}
        self._apply_time = Distribution(APPLY_BUCKETS_S)
        self._sync_time = Distribution(APPLY_BUCKETS_S)
        self.worst_detection_s: dict[str, float] = {}  # pool -> bound by its settings

    def note_finding(self, key: Key, finding: Finding) -> None:
        """Count one probe."""
        time = self._probe_time.setdefault(key, Distribution(PROBE_BUCKETS_S))
        time.observe(finding.took_s)
        pair = (key, finding.result)
        self._probe_results[pair] = self._probe_results.get(pair, 0) + 1

    def note_sync(self, took_s: float, apply_s: float) -> None:
        """Count one sync, and the apply in it."""
        self._sync_time.observe(took_s)
        self._apply_time.observe(apply_s)

    def forget_all_but(self, keys: set[Key]) -> None:
        """Drop the series of backends that are gone."""
        for key in self._probe_time.keys() - keys:
            del self._probe_time[key]
        for pair in [pair for pair in self._probe_results if pair[0] not in keys]:
            del self._probe_results[pair]

    def collect(self) -> "Iterator[Family]":
        """Yield every family."""
        stats = self._dataplane().stats()
        yield build_info(self._mode)
        yield from _totals(stats)
        address = self._dataplane().address
        # By where it listens: a vip with port 0 has a name only since it is bound.
        yield from _vips({address(key): vip for key, vip in stats.vips.items()})
        yield from _backends(stats.backends)
        yield from _workers(stats)
        yield from web_families(stats, _add)
        yield from self._probes()
        yield self._single("table_apply_seconds", "Publish a table.", self._apply_time)
        yield self._single("sync_seconds", "From change to table.", self._sync_time)

    def _single(
        self, name: str, text: str, values: Distribution
    ) -> "HistogramMetricFamily":
        family = histogram(name, text)
        values.add_to(family, [])
        return family

    def _probes(self) -> "Iterator[Family]":
        up = gauge("backend_up", "1 = takes new relays.", "backend")
        state = gauge("backend_state", "1 = in this state.", "backend", "state")
        for key, now in self.states().items():
            name = format_address(*key)
            up.add_metric([name], now is State.UP)
            for each in State:
                state.add_metric([name, str(each)], now is each)
        yield up
        yield state
        took = histogram("probe_seconds", "Duration of probes.", "backend")
        for key, time in self._probe_time.items():
            time.add_to(took, [format_address(*key)])
        yield took
        results = counter("probes", "Probes by result.", "backend", "result")
        for (key, result), count in self._probe_results.items():
            results.add_metric([format_address(*key), str(result)], count)
        yield results
        worst = gauge("probe_detection_seconds", "Bound, for a hung server.", "pool")
        for pool, seconds in self.worst_detection_s.items():
            worst.add_metric([pool], seconds)
        yield worst


def _totals(stats: Stats) -> "Iterator[Family]":
    for name, text, value in (
        ("relays_active", "Relays open now.", stats.relays_active),
        ("table_generation", "Number of the table in use.", stats.generation),
    ):
        family = gauge(name, text)
        family.add_metric([], value)
        yield family
    lost = counter("notices_lost", "News of the workers that found no room.")
    lost.add_metric([], stats.notices_lost)
    yield lost


def _vips(vips: dict[Key, VipStats]) -> "Iterator[Family]":
    ended = counter("relays", "Relays that ended or were refused.", "vip", "reason")
    accepted = counter("relays_accepted", "Connections accepted.", "vip")
    moved = counter("relay_bytes", "Bytes forwarded.", "vip", "direction")
    retries = counter("connect_retries", "Connects tried again elsewhere.", "vip")
    for key, vip in vips.items():
        name = format_address(*key)
        reasons = dict(vip.closed)
        for reason, count in vip.refused.items():
            reasons[reason] = reasons.get(reason, 0) + count
        for reason, count in reasons.items():
            ended.add_metric([name, reason], count)
        accepted.add_metric([name], vip.accepted)
        moved.add_metric([name, "up"], vip.bytes_up)
        moved.add_metric([name, "down"], vip.bytes_down)
        retries.add_metric([name], vip.retries)
    yield from (ended, accepted, moved, retries)


def _backends(backends: dict[Key, BackendStats]) -> "Iterator[Family]":
    active = gauge("backend_active", "Relays open now.", "backend")
    ejected = gauge("backend_ejected", "1 = after failed connects.", "backend")
    failures = counter("connect_failures", "Connects that failed.", "backend")
    moved = counter("backend_bytes", "Bytes forwarded.", "backend", "direction")
    time = histogram("connect_seconds", "Duration of connects.", "backend")
    for key, backend in backends.items():
        name = format_address(*key)
        active.add_metric([name], backend.active)
        ejected.add_metric([name], backend.ejected)
        failures.add_metric([name], backend.connect_failures)
        moved.add_metric([name, "up"], backend.bytes_up)
        moved.add_metric([name, "down"], backend.bytes_down)
        _add(time, [name], backend.connect_time)
    yield from (active, ejected, failures, moved, time)


def _workers(stats: Stats) -> "Iterator[Family]":
    active = gauge("worker_relays_active", "Relays open now.", "worker")
    moved = counter("worker_bytes", "Bytes by how they moved.", "worker", "how")
    for number, worker in enumerate(stats.workers):
        active.add_metric([str(number)], worker.active)
        moved.add_metric([str(number), "copied"], worker.bytes_copied)
        moved.add_metric([str(number), "spliced"], worker.bytes_spliced)
    yield from (active, moved)


def _add(family: "HistogramMetricFamily", labels: list[str], values: Histogram) -> None:
    # The core's buckets are two per octave; a scrape gets one per two octaves, which
    # loses nothing but resolution, because they are cumulative.
    buckets = cumulative([bound / 1e6 for bound in values.bounds_us], values.counts)
    thinned = [*buckets[:-1:_KEEP_EVERY], buckets[-1]]
    family.add_metric(labels, buckets=thinned, sum_value=values.sum_us / 1e6)
