"""Of Services: types, ports, names, affinity, health check node ports."""

from typing import TYPE_CHECKING, Any

import pytest

from pyproxy.discovery.services import Health, Settings
from pyproxy.kube.objects import ClientIPConfig, Service, SessionAffinityConfig
from tests.support.services_rig import (
    CLIENT,
    NODE,
    World,
    endpoint,
    port,
    service,
    slice_of,
    some,
)

if TYPE_CHECKING:
    from pyproxy.kube.slices import BriefSlice

A, B = "ns/a", "ns/b"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"type": "ExternalName"}, "type ExternalName"),
        ({"ip": "None"}, "no cluster IP: headless"),
        ({"ip": ""}, "no cluster IP yet"),
        (
            {"labels": {"service.kubernetes.io/service-proxy-name": "x"}},
            "label service.kubernetes.io/service-proxy-name gives it to x",
        ),
        (
            {"labels": {"service.kubernetes.io/service-proxy-name": ""}},
            "label service.kubernetes.io/service-proxy-name gives it to nobody",
        ),
        (
            {"labels": {"service.kubernetes.io/headless": ""}},
            "label service.kubernetes.io/headless",
        ),
    ],
)
def test_services_that_are_none_of_ours(change: dict[str, str], why: str) -> None:
    world = World()
    world.put(service(A, "172.30.0.1"), slice_of(A, endpoint("10.0.0.1")))
    more: dict[str, str] = dict(change)
    delta = world.put(service(A, more.pop("ip", "172.30.0.1"), **more))
    assert world.table.made(A).skipped == why
    assert set(some(delta)) == {"-pools", "-vips", "-fronts", "-ips"}
    assert world.put(service(A, "172.30.0.1")).vips


def test_a_proxy_with_a_name_serves_what_has_that_name() -> None:
    name = {"service.kubernetes.io/service-proxy-name": "ours"}
    world = World(Settings(NODE, service_proxy_name="ours"))
    world.put(
        service(A, "172.30.0.1", labels=name),
        service(B, "172.30.0.2"),
        slice_of(A, endpoint("10.0.0.1"), labels=name),
        slice_of(B, endpoint("10.0.0.2")),
    )
    assert world.flow(CLIENT, "172.30.0.1", 80)[0] == "10.0.0.1:80"
    assert world.flow(CLIENT, "172.30.0.2", 80)[0] == ""
    assert world.settings.selector == (
        "service.kubernetes.io/service-proxy-name=ours,!service.kubernetes.io/headless"
    )


@pytest.mark.parametrize("label", ["headless", "service-proxy-name"])
def test_slices_that_are_none_of_ours(label: str) -> None:
    world = World()
    world.put(service(A, "172.30.0.1"))
    other = slice_of(
        A, endpoint("10.0.0.1"), labels={f"service.kubernetes.io/{label}": ""}
    )
    assert world.put(other).is_empty


def test_a_port_changes_its_protocol_number_and_name() -> None:
    world = World()
    slices = slice_of(
        *(A, endpoint("10.0.0.1")),
        ports=(("p80", 80, "TCP"), ("p80", 81, "UDP"), ("web", 82, "TCP")),
    )
    world.put(service(A, "172.30.0.1"), slices)
    delta = world.put(service(A, "172.30.0.1", port(80, protocol="UDP")))
    assert [each.key for each in delta.vips] == [("udp", "172.30.0.1", 80)]
    assert delta.remove_vips == (("tcp", "172.30.0.1", 80),)
    assert world.flow(CLIENT, "172.30.0.1", 80, "udp")[0] == "10.0.0.1:81"
    delta = world.put(service(A, "172.30.0.1", port(90)))
    assert world.flow(CLIENT, "172.30.0.1", 90)[0] == "10.0.0.1:80"
    delta = world.put(service(A, "172.30.0.1", port(90, "web")))
    assert some(delta) == {
        "+pools": ["ns/a:web/tcp/IPv4#cluster"],
        "-pools": ["ns/a:p80/tcp/IPv4#cluster"],
        "+vips": ["172.30.0.1:90"],  # it names another pool
    }


@pytest.mark.parametrize(
    ("config", "timeout_s"),
    [({"timeout_seconds": 100}, 100.0), ({}, 10800.0), (None, 10800.0)],
)
def test_affinity_is_of_all_addresses_of_a_port(
    config: dict[str, int] | None, timeout_s: float
) -> None:
    client = ClientIPConfig(**config) if config is not None else None
    world = World()
    delta = world.put(
        service(
            *(A, "172.30.0.1", port(80, node_port=3001)),
            type="NodePort",
            session_affinity="ClientIP",
            session_affinity_config=SessionAffinityConfig(client_ip=client),
        ),
        slice_of(A, endpoint("10.0.0.1")),
    )
    (pool,) = delta.pools
    assert pool.affinity_s == timeout_s
    assert {vip.pool.name for vip in delta.vips} == {pool.name}
    assert [vip.port for vip in delta.vips] == [80, 3001]
    (pool,) = world.put(service(A, "172.30.0.1")).pools
    assert pool.affinity_s == 0


def health(**more: Any) -> Service:
    """Return a Service with a health check node port."""
    spec: dict[str, Any] = {
        "type": "LoadBalancer",
        "external_traffic_policy": "Local",
        "health_check_node_port": 30000,
    }
    return service(A, ("172.30.0.1", "fd00:172:30::1"), port(80), **spec | more)


def test_a_health_port_counts_ready_endpoints_here_once() -> None:
    world = World()
    both = (("p80", 80, "TCP"), ("p81", 81, "TCP"))
    here = slice_of(
        A,
        endpoint("10.0.0.1", NODE),
        endpoint("10.0.0.2", NODE),
        endpoint("10.0.0.3", NODE, "leaving"),
        endpoint("10.0.0.4", NODE, "unready"),
        endpoint("10.0.0.5", "other"),
        ports=both,
    )
    six = slice_of(A, *(endpoint(f"fd00:10::{n}", NODE) for n in (1, 2, 3)), number=3)
    assert world.put(health(), here).health == {A: Health(30000, 2)}
    copy = slice_of(A, endpoint("10.0.0.1", NODE), number=2)
    assert world.put(copy).health == {}
    assert world.put(six).health == {A: Health(30000, 3)}
    ending = [endpoint(f"10.0.0.{n}", NODE, "leaving") for n in (1, 2)]
    world.drop(copy, six)
    assert world.put(slice_of(A, *ending)).health == {A: Health(30000, 0)}
    assert world.put(health(external_traffic_policy="Cluster")).health == {A: None}
    assert world.put(health(type="NodePort")).health == {}
    world.put(health())
    assert world.drop(health()).health == {A: None}


def test_ports_that_drop_clients_are_counted() -> None:
    # kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy}
    world = World()
    local = {"internal_traffic_policy": "Local", "external_traffic_policy": "Local"}
    made = service(A, "172.30.0.1", port(80, node_port=1), type="NodePort", **local)
    inside = service(B, "172.30.0.2", **local)
    rows: list[tuple[list[Service | BriefSlice], tuple[int, int]]] = [
        ([made, inside], (0, 0)),  # refused, not dropped
        ([slice_of(A, endpoint("10.0.0.1", "other"))], (1, 1)),
        ([slice_of(B, endpoint("10.0.0.2", "other"))], (2, 1)),
        ([slice_of(A, endpoint("10.0.0.1", NODE))], (1, 0)),
    ]
    for things, counts in rows:
        world.put(*things)
        found = world.table.lacking_internal, world.table.lacking_external
        assert found == counts
    world.drop(made, inside)
    assert (world.table.lacking_internal, world.table.lacking_external) == (0, 0)
