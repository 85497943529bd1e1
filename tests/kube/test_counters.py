"""Names and labels of what is counted."""

from prometheus_client import generate_latest

from pyproxy.kube.counters import KubeCounters
from pyproxy.metrics import new_registry


def test_counters_have_their_names_and_labels() -> None:
    counters = KubeCounters(lambda: {"queue full": 3})
    counters.watch_restarted("services")
    counters.watch_restarted("services")
    text = generate_latest(new_registry([counters])).decode()
    assert 'pyproxy_watch_restarts_total{kind="services"} 2.0' in text
    assert 'pyproxy_events_dropped_total{reason="queue full"} 3.0' in text


def test_counters_without_a_recorder_are_empty() -> None:
    text = generate_latest(new_registry([KubeCounters()])).decode()
    assert "reason=" not in text
