"""Names of everything that we count, and how a histogram of the core becomes theirs.

Labels are bounded: listeners, backends, and enumerations; never a client's address.
"""

import platform
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from pyproxy import __version__

if TYPE_CHECKING:  # imported at the first scrape: nothing before it needs the library
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.registry import Collector

    Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

APPLY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
PROBE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Collects(Protocol):
    """What can be read at a scrape."""

    def collect(self) -> "Iterator[Family]":
        """Yield every family."""


class Distribution:
    """A histogram of ours: a few additions per value, no lock, read by one thread."""

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds = tuple(bounds_s)
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        index = next(
            (i for i, bound in enumerate(self._bounds) if seconds <= bound),
            len(self._bounds),
        )
        self._counts[index] += 1
        self._sum += seconds

    def add_to(self, family: "HistogramMetricFamily", labels: Sequence[str]) -> None:
        """Append as one series of `family`."""
        buckets = cumulative(self._bounds, self._counts)
        family.add_metric(labels, buckets=buckets, sum_value=self._sum)


def cumulative(
    bounds: Iterable[float], counts: Sequence[int]
) -> list[tuple[str, float]]:
    """Turn counts per bucket, the last one open, into what Prometheus reads."""
    names = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    total = 0
    buckets: list[tuple[str, float]] = []
    for name, count in zip(names, counts, strict=True):
        total += count
        buckets.append((name, total))
    return buckets


def counter(name: str, text: str, *labels: str) -> "CounterMetricFamily":
    """Declare `pyproxy_NAME_total`."""
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(f"pyproxy_{name}", text, labels=labels)


def gauge(name: str, text: str, *labels: str) -> "GaugeMetricFamily":
    """Declare `pyproxy_NAME`."""
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(f"pyproxy_{name}", text, labels=labels)


def histogram(name: str, text: str, *labels: str) -> "HistogramMetricFamily":
    """Declare `pyproxy_NAME`, in seconds."""
    from prometheus_client.core import HistogramMetricFamily

    return HistogramMetricFamily(f"pyproxy_{name}", text, labels=labels)


def build_info(mode: str) -> "GaugeMetricFamily":
    """Which program this is."""
    family = gauge("build_info", "Version and mode.", "version", "mode", "python")
    family.add_metric([__version__, mode, platform.python_version()], 1)
    return family


def new_registry(collectors: Iterable[Collects] = ()) -> "CollectorRegistry":
    """Return a registry of these, and of this process as the kernel sees it.

    One of our own: the global one collects what libraries add.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    for each in collectors:
        registry.register(cast("Collector", each))  # by its form, not by descent
    return registry
