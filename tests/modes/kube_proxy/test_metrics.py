"""Counters under kube-proxy's names, and those of Services, which are bounded."""

from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.exposition import generate_latest

from pyproxy.dataplane import VipStats
from pyproxy.metrics import new_registry
from pyproxy.model import VipKey
from pyproxy.modes.kube_proxy.metrics import KubeProxyCounters, ServiceCounters

# Of dashboards and alerts. Source: k/k pkg/proxy/metrics/metrics.go.
NAMES = """
kubeproxy_sync_proxy_rules_duration_seconds_bucket
kubeproxy_sync_proxy_rules_last_timestamp_seconds
kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds
kubeproxy_sync_proxy_rules_service_changes_pending
kubeproxy_sync_proxy_rules_service_changes_total
kubeproxy_sync_proxy_rules_endpoint_changes_pending
kubeproxy_sync_proxy_rules_endpoint_changes_total
kubeproxy_sync_proxy_rules_no_local_endpoints_total
kubeproxy_network_programming_duration_seconds_bucket
kubeproxy_proxy_healthz_total
kubeproxy_proxy_livez_total
""".split()


def scrape(*collectors: Any) -> dict[str, float]:
    """Every sample as Prometheus reads it, by name and labels."""
    lines = generate_latest(new_registry(collectors)).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def used() -> KubeProxyCounters:
    """Counters of an agent at work."""
    found = KubeProxyCounters(wall=lambda: 1_700_000_000.0)
    found.note_change(is_slice=False)
    found.note_change(is_slice=True)
    found.note_change(is_slice=True)
    found.no_local_endpoints = lambda: {"internal": 2, "external": 0}
    found.note_answer("healthz", 503)
    found.note_answer("livez", 200)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_names_of_kube_proxy_are_there(name: str) -> None:
    assert any(each.partition("{")[0] == name for each in scrape(used()))


def test_changes_wait_until_they_are_used() -> None:
    counters = used()
    rules = "kubeproxy_sync_proxy_rules"
    found = scrape(counters)
    assert found[f"{rules}_endpoint_changes_pending"] == 2
    assert found[f"{rules}_endpoint_changes_total"] == 2
    assert found[f"{rules}_last_timestamp_seconds"] == 0
    counters.note_sync(0.003)
    found = scrape(counters)
    assert found[f"{rules}_service_changes_pending"] == 0
    assert found[f"{rules}_endpoint_changes_pending"] == 0
    assert found[f"{rules}_service_changes_total"] == 1
    assert found[f"{rules}_last_timestamp_seconds"] == 1_700_000_000.0
    assert found[f"{rules}_duration_seconds_count"] == 1
    assert found[f'{rules}_duration_seconds_bucket{{le="0.002"}}'] == 0
    assert found[f'{rules}_duration_seconds_bucket{{le="0.004"}}'] == 1
    assert found[f'{rules}_no_local_endpoints_total{{traffic_policy="internal"}}'] == 2
    assert found['kubeproxy_proxy_healthz_total{code="503"}'] == 1


@pytest.mark.parametrize(
    ("said", "bucket", "count"),
    [
        ("2023-11-14T22:13:19.7Z", "0.5", 1),
        ("2023-11-14T22:13:10Z", "9.0", 0),
        ("2023-11-14T22:13:10Z", "10.0", 1),
        ("2023-11-14T22:13:25Z", "0.25", 1),  # a clock that is ahead of ours
        ("yesterday", "+Inf", 0),
    ],
)
def test_programming_time_is_since_the_change(
    said: str, bucket: str, count: int
) -> None:
    counters = KubeProxyCounters(wall=lambda: 1_700_000_000.0)
    counters.note_programmed(said)
    name = "kubeproxy_network_programming_duration_seconds_bucket"
    wanted = {"0.5": "0.5", "9.0": "9", "10.0": "10", "0.25": "0.25", "+Inf": "+Inf"}
    assert scrape(counters)[f'{name}{{le="{wanted[bucket]}"}}'] == count


def stats(accepted: int, active: int = 0, **closed: int) -> VipStats:
    """Counters of a vip with ten bytes for each relay."""
    return VipStats(accepted, active, {}, closed, 10 * accepted, 0, 0)


class Core:
    """Counters of vips; a vip is owned by the Service that its host names."""

    def __init__(self) -> None:
        self.vips: dict[VipKey, VipStats] = {}

    def stats(self) -> Mapping[VipKey, VipStats]:
        """All of them."""
        return self.vips


def key(host: str, port: int = 1) -> VipKey:
    """Of a vip."""
    return ("tcp", host, port)


def relays(counters: ServiceCounters) -> dict[str, float]:
    """By Service."""
    name = "pyproxy_service_relays_total"
    return {
        each.split('"')[1]: value
        for each, value in scrape(counters).items()
        if each.startswith(name)
    }


def test_services_are_summed_over_their_vips() -> None:
    core = Core()
    counters = ServiceCounters(core.stats, lambda vip: vip[1])
    core.vips = {key("a"): stats(2, 1, closed=1), key("a", 2): stats(3, idle_timeout=3)}
    core.vips[key("b")] = stats(4, connect_failed=4)
    found = scrape(counters)
    assert found['pyproxy_service_relays_total{service="a"}'] == 5
    assert found['pyproxy_service_relays_active{service="a"}'] == 1
    assert found['pyproxy_service_failures_total{service="a"}'] == 0
    assert found['pyproxy_service_failures_total{service="b"}'] == 4
    assert found['pyproxy_service_bytes_total{direction="up",service="a"}'] == 50


def test_beyond_the_bound_services_are_other_and_nothing_goes_back() -> None:
    core = Core()
    counters = ServiceCounters(core.stats, lambda vip: vip[1], most=2)
    core.vips = {key(name): stats(1) for name in "abcd"}
    assert relays(counters) == {"a": 1, "b": 1, "other": 2}
    core.vips[key("d")] = stats(5)
    assert relays(counters) == {"a": 1, "b": 1, "other": 6}
    del core.vips[key("d")]  # what it did stays counted
    assert relays(counters) == {"a": 1, "b": 1, "other": 6}
    del core.vips[key("a")]  # there is room for one more, from now on
    assert relays(counters) == {"b": 1, "other": 6}
    core.vips[key("c")] = stats(4)
    assert relays(counters) == {"b": 1, "c": 3, "other": 6}


def test_service_without_traffic_takes_no_place() -> None:
    core = Core()
    counters = ServiceCounters(core.stats, lambda vip: vip[1], most=1)
    core.vips = {key("idle"): stats(0), key("busy"): stats(1)}
    assert relays(counters) == {"busy": 1, "other": 0}


def test_vip_that_came_back_counts_from_zero() -> None:
    core = Core()
    counters = ServiceCounters(core.stats, lambda vip: vip[1])
    core.vips = {key("a"): stats(7)}
    relays(counters)
    core.vips = {key("a"): stats(2)}
    assert relays(counters) == {"a": 9, "other": 0}
