"""Counters of UDP flows as Prometheus families."""

from collections import Counter
from typing import TYPE_CHECKING

from pyproxy.dataplane import Stats, VipStats
from pyproxy.metrics import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyproxy.metrics import Family


def flow_families(stats: Stats, vips: dict[str, VipStats]) -> "Iterator[Family]":
    """Yield those of flows and datagrams; `vips` by name, those of TCP among them."""
    active = gauge("flows_active", "UDP flows open now.")
    active.add_metric([], stats.flows_active)
    yield active
    ended = counter("flows", "UDP flows that ended, or were refused.", "vip", "reason")
    moved: Counter[str] = Counter(up=0, down=0)
    lost: Counter[str] = Counter(overflow=stats.udp_overflow)
    for name, vip in vips.items():
        if vip.udp is None:
            continue
        for reason, count in vip.closed.items():
            ended.add_metric([name, reason], count + vip.refused[reason])
        moved.update(up=vip.udp.datagrams_up, down=vip.udp.datagrams_down)
        lost.update(vip.udp.dropped)
    yield ended
    text = "Datagrams received, to be forwarded; trains count by their datagrams."
    datagrams = counter("datagrams", text, "direction")
    for direction, count in moved.items():
        datagrams.add_metric([direction], count)
    yield datagrams
    dropped = counter("datagrams_dropped", "Of them, not forwarded.", "reason")
    for reason, count in lost.items():
        dropped.add_metric([reason], count)
    yield dropped
