"""What the core counts of HTTP, as Prometheus families; summed over the listeners."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import HistogramMetricFamily

from pyproxy.dataplane import Histogram, HttpStats, Stats
from pyproxy.metrics import Family, counter, histogram

Add = Callable[[HistogramMetricFamily, list[str], Histogram], None]


def http_families(stats: Stats, add: Add) -> Iterator[Family]:
    """Yield the families of listeners that speak HTTP; none if there are none."""
    listeners = list(stats.http.values())
    if not listeners:
        return
    requests = counter("http_requests", "Requests answered.", "code", "verb")
    answered: Counter[tuple[str, int]] = Counter()
    for one in listeners:
        answered.update(one.codes)
    for (verb, code), count in sorted(answered.items()):
        requests.add_metric([str(code), verb], count)
    yield requests
    took = histogram("http_request_seconds", "From a whole head to the last byte.")
    add(took, [], _sum(one.took for one in listeners))
    yield took
    verdicts = counter("verdicts", "Requests by how they were decided.", "outcome")
    for outcome, count in _outcomes(listeners):
        verdicts.add_metric([outcome], count)
    yield verdicts
    replays = counter("http_replays", "Requests sent again on a new connection.")
    replays.add_metric([], sum(one.replayed for one in listeners))
    yield replays
    reused = counter("upstream_reused", "Kept connections used again.", "upstream")
    resumed = counter("upstream_tls_resumed", "TLS sessions resumed.", "upstream")
    for name, upstream in stats.upstreams.items():
        reused.add_metric([name], upstream.reused)
        resumed.add_metric([name], upstream.resumed)
    yield from (reused, resumed)


def _outcomes(listeners: Iterable[HttpStats]) -> Iterator[tuple[str, int]]:
    for outcome in ("remembered", "asked", "unanswered"):
        yield outcome, sum(getattr(one, outcome) for one in listeners)


def _sum(histograms: Iterable[Histogram]) -> Histogram:
    all_of_them = list(histograms)
    counts = zip(*(each.counts for each in all_of_them), strict=True)
    return Histogram(
        all_of_them[0].bounds_us,
        tuple(sum(column) for column in counts),
        sum(each.sum_us for each in all_of_them),
    )
