"""What the core counts of HTTP, as Prometheus families; summed over the listeners."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from pyproxy.dataplane import Histogram, HttpStats, Stats, VerdictStats
from pyproxy.metrics import counter, gauge, histogram

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily

    from pyproxy.metrics import Family

    Add = Callable[[HistogramMetricFamily, list[str], Histogram], None]


def http_families(stats: Stats, add: "Add") -> "Iterator[Family]":
    """Yield the families of listeners that speak HTTP; none if there are none."""
    listeners = list(stats.http.values())
    if not listeners:
        return
    # Counted with the last byte, as is what they took: a watch counts when it ends.
    requests = counter(
        *("http_requests", "Requests answered; counted at the end."),
        *("code", "verb"),
    )
    answered: Counter[tuple[str, int]] = Counter()
    for one in listeners:
        answered.update(one.codes)
    for (verb, code), count in sorted(answered.items()):
        requests.add_metric([str(code), verb], count)
    yield requests
    took = histogram("http_request_seconds", "From a whole head to the last byte.")
    add(took, [], _sum(one.took for one in listeners))
    yield took
    yield from _decisions(listeners)
    yield from _remembered(stats.verdicts)
    moved = counter(
        "http_body_bytes", "Bytes of bodies; counted at the end.", "direction"
    )
    moved.add_metric(["up"], sum(one.bytes_up for one in listeners))
    moved.add_metric(["down"], sum(one.bytes_down for one in listeners))
    yield moved
    yield from _pages(listeners)
    yield from _upstreams(stats.upstreams)


def _decisions(listeners: Iterable[HttpStats]) -> "Iterator[Family]":
    verdicts = counter("verdicts", "Requests by how they were decided.", "outcome")
    for outcome, count in _outcomes(listeners):
        verdicts.add_metric([outcome], count)
    yield verdicts
    replays = counter(
        *("http_replays", "Requests sent again: a connection ended without an answer."),
        "reason",
    )
    replays.add_metric(["kept-ended"], sum(one.replayed for one in listeners))
    replays.add_metric(["backend-failed"], sum(one.rescued for one in listeners))
    yield replays
    limited = counter("http_limited", "Requests over the limit of a user: 429.")
    limited.add_metric([], sum(one.limited for one in listeners))
    yield limited
    paused = counter("http_pauses", "Times that a request was over a user's rate.")
    paused.add_metric([], sum(one.paused for one in listeners))
    yield paused
    lost = counter("http_records_lost", "Records of requests, for logs, without room.")
    lost.add_metric([], sum(one.unrecorded for one in listeners))
    yield lost


def _pages(listeners: Iterable[HttpStats]) -> "Iterator[Family]":
    """What became of pages whose URLs are to be mapped."""
    pages = counter(
        *("html_pages", "Pages whose URLs are to be mapped, by what became of them."),
        "outcome",
    )
    outcomes: Counter[str] = Counter()
    for one in listeners:
        outcomes.update(one.pages)
    for outcome, count in outcomes.items():
        pages.add_metric([outcome], count)
    yield pages
    long = counter("html_values_untouched", "URLs in pages that were too long to map.")
    long.add_metric([], sum(one.values_untouched for one in listeners))
    yield long


def _upstreams(upstreams: Mapping[str, HttpStats]) -> "Iterator[Family]":
    reused = counter("upstream_reused", "Kept connections used again.", "upstream")
    resumed = counter("upstream_tls_resumed", "TLS sessions resumed.", "upstream")
    unreached = counter(
        *("upstream_unreached", "Dials that failed, to addresses that verdicts named."),
        "upstream",
    )
    for name, upstream in upstreams.items():
        reused.add_metric([name], upstream.reused)
        resumed.add_metric([name], upstream.resumed)
        unreached.add_metric([name], upstream.unreached)
    yield from (reused, resumed, unreached)


def _remembered(verdicts: VerdictStats) -> "Iterator[Family]":
    """What the workers remember; one verdict is an entry of each that does."""
    for name, text, value in (
        ("verdict_entries", "Verdicts that are remembered now.", verdicts.entries),
        ("verdict_bytes", "Memory that they take.", verdicts.bytes),
        ("quotas", "Names of users with limits that are known.", verdicts.quotas),
    ):
        held = gauge(name, text)
        held.add_metric([], value)
        yield held
    for name, text, value in (
        (
            *("verdicts_evicted", "Verdicts that made room before their time."),
            verdicts.evicted,
        ),
        (
            *("verdicts_unkept", "Answers not remembered: no room, too long a key."),
            verdicts.unkept,
        ),
    ):
        lost = counter(name, text)
        lost.add_metric([], value)
        yield lost


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
