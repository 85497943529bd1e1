"""What the core counts of HTTP, as Prometheus families; summed over the listeners."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from pyproxy.dataplane import Histogram, Stats, WebStats
from pyproxy.metrics import counter, histogram

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily

    from pyproxy.metrics import Family

    Add = Callable[[HistogramMetricFamily, list[str], Histogram], None]


def web_families(stats: Stats, add: "Add") -> "Iterator[Family]":
    """Yield the families of listeners that speak HTTP; none if there are none."""
    webs = list(stats.webs.values())
    if not webs:
        return
    requests = counter("http_requests", "Requests answered.", "code", "verb")
    answered: Counter[tuple[str, int]] = Counter()
    for web in webs:
        answered.update(web.codes)
    for (verb, code), count in sorted(answered.items()):
        requests.add_metric([str(code), verb], count)
    yield requests
    took = histogram("http_request_seconds", "From a whole head to the last byte.")
    add(took, [], _sum(web.took for web in webs))
    yield took
    verdicts = counter("verdicts", "Requests by how they were decided.", "outcome")
    for outcome, count in _outcomes(webs):
        verdicts.add_metric([outcome], count)
    yield verdicts
    replays = counter("http_replays", "Requests sent again on a new connection.")
    replays.add_metric([], sum(web.replayed for web in webs))
    yield replays
    reused = counter("upstream_reused", "Kept connections used again.", "upstream")
    resumed = counter("upstream_tls_resumed", "TLS sessions resumed.", "upstream")
    for name, upstream in stats.upstreams.items():
        reused.add_metric([name], upstream.reused)
        resumed.add_metric([name], upstream.resumed)
    yield from (reused, resumed)


def _outcomes(webs: Iterable[WebStats]) -> Iterator[tuple[str, int]]:
    for outcome in ("remembered", "asked", "unanswered"):
        yield outcome, sum(getattr(web, outcome) for web in webs)


def _sum(histograms: Iterable[Histogram]) -> Histogram:
    all_of_them = list(histograms)
    counts = zip(*(each.counts for each in all_of_them), strict=True)
    return Histogram(
        all_of_them[0].bounds_us,
        tuple(sum(column) for column in counts),
        sum(each.sum_us for each in all_of_them),
    )
