"""Annotations of Services, and what is wrong with some."""

import pytest

from pyproxy.discovery.services import Options
from tests.support.services_rig import (
    World,
    endpoint,
    service,
    slice_of,
    some,
)

A, B = "ns/a", "ns/b"


def test_annotations_become_options_and_settings_of_pools() -> None:
    world = World()
    said = {
        "pyproxy.io/balance": "ring",
        "pyproxy.io/slow-start": "30s",
        "pyproxy.io/connect-timeout": "500ms",
        "pyproxy.io/path": "direct",
        "pyproxy.io/proxy-protocol": "v2",
        "pyproxy.io/max-connection-age": "1h30m",
        "example.com/other": "left alone",
    }
    delta = world.put(
        service(A, "172.30.0.1", annotations=said), slice_of(A, endpoint("10.0.0.1"))
    )
    options = Options("ring", 30.0, 0.5, "direct", "v2", 5400.0)
    assert delta.options == {A: options}
    assert delta.complaints == {}
    (pool,) = delta.pools
    assert (pool.balance, pool.slow_start_s) == ("ring", 30.0)
    assert pool.connect_timeout_s == 0.5
    delta = world.put(service(A, "172.30.0.1"))
    assert delta.options == {A: Options()}
    assert delta.pools[0].balance == "two-choices"
    assert delta.vips == ()


@pytest.mark.parametrize(
    ("name", "said", "complaint"),
    [
        ("balance", "fastest", "'fastest' is none of random, two-choices, least, "),
        ("balance", "", "'' is none of"),
        ("slow-start", "5", "'5' is not a duration"),
        ("connect-timeout", "0s", "0s is not between 0.001 s and 3600 s"),
        ("connect-timeout", "2h", "2h is not between"),
        ("path", "Direct", "'Direct' is none of relay, direct"),
        ("proxy-protocol", "v3", "'v3' is none of v1, v2"),
        ("max-connection-age", "-1s", "'-1s' is not a duration"),
        ("colour", "blue", "there is no such annotation"),
    ],
)
def test_annotations_without_sense_are_told_and_change_nothing(
    name: str, said: str, complaint: str
) -> None:
    world = World()
    world.put(service(A, "172.30.0.1"), slice_of(A, endpoint("10.0.0.1")))
    annotations = {f"pyproxy.io/{name}": said}
    delta = world.put(service(A, "172.30.0.1", annotations=annotations))
    assert (some(delta), delta.options) == ({}, {})
    (told,) = delta.complaints[A]
    assert told.startswith(f"annotation pyproxy.io/{name}: ")
    assert complaint in told
