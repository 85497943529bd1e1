"""The core's counters and the probes' findings as Prometheus families."""

from collections.abc import Callable, Iterator, Set
from functools import partial
from typing import TYPE_CHECKING

from pyproxy.admin.flows import flow_families
from pyproxy.admin.http import http_families
from pyproxy.dataplane import (
    BackendStats,
    Dataplane,
    Histogram,
    Stats,
    VipStats,
    pool_of,
)
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
from pyproxy.model import Key, State, Vip, VipKey, format_address
from pyproxy.probe import Finding, Result

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily

    from pyproxy.metrics import Family

_KEEP_EVERY = 4

BACKEND = ("backend", "pool")  # labels
LIMITS = {
    "max_connections": "connections",
    "max_connections_per_source": "connections_per_source",
    "max_new_per_s": "new_per_second",
    "max_new_per_s_per_source": "new_per_second_per_source",
}

Pools = dict[Key, str]  # backend -> names of its pools
States = Callable[[], dict[Key, State]]


class Collector:
    """Reads everything at the moment of the scrape; counting costs the path nothing."""

    def __init__(
        self, mode: str, dataplane: Callable[[], Dataplane], *, each: bool = True
    ) -> None:
        """Take the core as a function: it may not run yet.

        Without `each` there are no series of single vips and backends.
        """
        self._mode = mode
        self._each = each
        self._dataplane = dataplane
        self.states: States = dict
        self.suspects: Callable[[], Set[Key]] = frozenset
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
        dataplane = self._dataplane()
        stats = dataplane.stats() if self._each else dataplane.totals()
        yield build_info(self._mode)
        yield from _totals(stats)
        yield from _workers(stats)
        yield self._single("table_apply_seconds", "Publish a table.", self._apply_time)
        yield self._single("sync_seconds", "From change to table.", self._sync_time)
        if self._each:
            yield from self._all(dataplane, stats)
        else:
            yield from flow_families(stats, {})

    def _all(self, dataplane: Dataplane, stats: Stats) -> "Iterator[Family]":
        pools = pools_of(dataplane)
        # By where it listens: a vip with port 0 has a name only since it is bound.
        name = partial(_name, dataplane)
        vips = {name(key): vip for key, vip in stats.vips.items()}
        yield from _vips({name: vip for name, vip in vips.items() if vip.udp is None})
        yield from flow_families(stats, vips)
        yield from _settings({name(vip.key): vip for vip in dataplane.vips})
        yield from _backends(stats.backends, pools)
        yield from http_families(stats, _add)
        yield from self._probes(pools)

    def _single(
        self, name: str, text: str, values: Distribution
    ) -> "HistogramMetricFamily":
        family = histogram(name, text)
        values.add_to(family, [])
        return family

    def _probes(self, pools: Pools) -> "Iterator[Family]":
        up = gauge("backend_up", "1 = takes new relays.", *BACKEND)
        state = gauge("backend_state", "1 = in this state.", *BACKEND, "state")
        doubted = gauge("backend_suspect", "1 = does not answer.", *BACKEND)
        suspects = self.suspects()
        for key, now in self.states().items():
            labels = _labels(key, pools)
            up.add_metric(labels, now is State.UP)
            doubted.add_metric(labels, key in suspects)
            for each in State:
                state.add_metric([*labels, str(each)], now is each)
        yield up
        yield doubted
        yield state
        took = histogram("probe_seconds", "Duration of probes.", *BACKEND)
        for key, time in self._probe_time.items():
            time.add_to(took, _labels(key, pools))
        yield took
        results = counter("probes", "Probes by result.", *BACKEND, "result")
        for (key, result), count in self._probe_results.items():
            results.add_metric([*_labels(key, pools), str(result)], count)
        yield results
        worst = gauge("probe_detection_seconds", "Bound, for a hung server.", "pool")
        for pool, seconds in self.worst_detection_s.items():
            worst.add_metric([pool], seconds)
        yield worst


def pools_of(dataplane: Dataplane) -> Pools:
    """Return the pools of each backend, their names joined where there are several.

    One series for each backend, so that sums over them count nothing twice.
    """
    names: dict[Key, list[str]] = {}
    pools = {vip.pool.name: vip.pool for vip in dataplane.vips}
    for pool in pools.values():
        for backend in pool.backends:
            names.setdefault(backend.key, []).append(pool.name)
    for upstream in dataplane.upstreams:
        for one in pool_of(upstream).backends:
            names.setdefault(one.key, []).append(upstream.name)
    return {key: ",".join(dict.fromkeys(each)) for key, each in names.items()}


def _labels(key: Key, pools: Pools) -> list[str]:
    return [format_address(*key), pools.get(key, "")]


def _totals(stats: Stats) -> "Iterator[Family]":
    for name, text, value in (
        ("relays_active", "Relays open now.", stats.relays_active),
        ("table_generation", "Number of the table in use.", stats.generation),
    ):
        family = gauge(name, text)
        family.add_metric([], value)
        yield family
    for name, text, value in (
        ("notices_lost", "News of the workers that found no room.", stats.notices_lost),
        ("no_vip", "Clients that dialled what no vip is for: reset.", stats.no_vip),
        ("affinity_evictions", "Sources that lost affinity for room.", stats.unpinned),
        ("source_losses", "Dials not from the client's address.", stats.unkept),
    ):
        lost = counter(name, text)
        lost.add_metric([], value)
        yield lost


def _name(dataplane: Dataplane, key: VipKey) -> str:
    # By where it listens: a vip with port 0 has a name only since it is bound.
    name = format_address(*dataplane.address(key))
    return f"{name}/udp" if key[0] == "udp" else name


def _vips(vips: dict[str, VipStats]) -> "Iterator[Family]":
    # Counted at their end: what is open now is vip_relays_active, what began is
    # relays_accepted.
    ended = counter(
        *("relays", "Relays that ended, or were refused; counted at the end."),
        *("vip", "reason"),
    )
    active = gauge("vip_relays_active", "Relays open now.", "vip")
    accepted = counter("relays_accepted", "Connections accepted.", "vip")
    moved = counter("relay_bytes", "Bytes forwarded.", "vip", "direction")
    retries = counter("connect_retries", "Connects tried again elsewhere.", "vip")
    for name, vip in vips.items():
        reasons = dict(vip.closed)
        for reason, count in vip.refused.items():
            reasons[reason] = reasons.get(reason, 0) + count
        for reason, count in reasons.items():
            ended.add_metric([name, reason], count)
        active.add_metric([name], vip.active)
        accepted.add_metric([name], vip.accepted)
        moved.add_metric([name, "up"], vip.bytes_up)
        moved.add_metric([name, "down"], vip.bytes_down)
        retries.add_metric([name], vip.retries)
    yield from (ended, active, accepted, moved, retries)


def _settings(vips: dict[str, Vip]) -> "Iterator[Family]":
    """What is set, so that a rule can compare what is there with it."""
    info = gauge("vip_info", "1; which pool takes its clients.", "vip", "pool")
    limit = gauge("vip_limit", "What goes beyond is refused.", "vip", "limit")
    for name, vip in vips.items():
        info.add_metric([name, vip.pool.name], 1)
        for field, label in LIMITS.items():
            if most := getattr(vip.limits, field):
                limit.add_metric([name, label], most)
    yield from (info, limit)


def _backends(backends: dict[Key, BackendStats], pools: Pools) -> "Iterator[Family]":
    active = gauge("backend_active", "Relays open now.", *BACKEND)
    ejected = gauge("backend_ejected", "1 = after failed connects.", *BACKEND)
    ejections = counter("backend_ejections", "Times that it was ejected.", *BACKEND)
    failures = counter("connect_failures", "Connects that failed.", *BACKEND)
    moved = counter("backend_bytes", "Bytes forwarded.", *BACKEND, "direction")
    time = histogram("connect_seconds", "Duration of connects.", *BACKEND)
    for key, backend in backends.items():
        labels = _labels(key, pools)
        active.add_metric(labels, backend.active)
        ejected.add_metric(labels, backend.ejected)
        ejections.add_metric(labels, backend.ejections)
        failures.add_metric(labels, backend.connect_failures)
        moved.add_metric([*labels, "up"], backend.bytes_up)
        moved.add_metric([*labels, "down"], backend.bytes_down)
        _add(time, labels, backend.connect_time)
    yield from (active, ejected, ejections, failures, moved, time)


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
