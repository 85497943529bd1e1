"""What a user is told of a Service: the same as what is done, and why."""

import pytest
from hypothesis import given

from pyproxy.discovery.services import ServiceTable, Settings, explain, render
from pyproxy.discovery.services.explain import Explanation
from tests.discovery.services.test_invariants import KEYS, Thing, things
from tests.support.services_golden import Replay
from tests.support.services_rig import (
    NODE,
    NODE_IP,
    PODS,
    World,
    endpoint,
    port,
    service,
    slice_of,
)

KEY = "ns/svc"
EVERYTHING = """\
ns/svc: LoadBalancer
  policies: internal Cluster, external Local
  affinity: clients stay for 3h
  balance: ring
  health check port 30000: 0 ready here
  ! annotation pyproxy.io/path: 'fast' is none of relay, direct
  ! endpoint 'fd00::1': not IPv4
  ! 1.2.3.4:80/tcp is taken by ns/older
  port p80 80/tcp, IPv4
    cluster 172.30.0.1:80: serve; source kept of Pods
    load-balancer 1.2.3.4:80: taken by ns/older
    node-port 192.168.0.2:3001: serve; source kept
      10.0.0.1:80   cluster  other      svc-1  ready, on another node
      10.0.0.2:80   unused   test-node  svc-1  not ready
      10.0.0.3:80   local    test-node  svc-1  terminating but serving, here, and none here is ready
      10.0.0.4:80   unused   test-node  svc-1  terminating, no longer serving
      [fd00::1]:80  unused   -          svc-1  no address of IPv4
      10.0.0.1:80   unused   -          svc-2  stands in another place, too, and that copy counts
  port dns 53/udp, IPv4
    cluster 172.30.0.1:53: reject; no endpoint can take traffic, on any node
    load-balancer 1.2.3.4:53: reject; only from 203.0.113.0/24; no endpoint can take traffic, on any node
    no endpoints
  slice ignored: svc-1: addresses that are not IPv4
  slice ignored: svc-3: no port of it is one of the Service
  slice ignored: svc-4: no port with a name and a number
  slice ignored: svc-5: the Service has no address of FQDN
"""  # noqa: E501


def test_everything_that_can_be_said_of_a_service() -> None:
    world = World()
    world.put(
        service(
            KEY,
            "172.30.0.1",
            port(80, node_port=3001),
            port(53, "dns", protocol="UDP"),
            type="LoadBalancer",
            external_traffic_policy="Local",
            session_affinity="ClientIP",
            health_check_node_port=30000,
            ingress=("1.2.3.4",),
            load_balancer_source_ranges=("203.0.113.0/24",),
            annotations={"pyproxy.io/balance": "ring", "pyproxy.io/path": "fast"},
        ),
        service("ns/older", "172.30.0.2", ingress=("1.2.3.4",), creation_timestamp="0"),
        slice_of(
            KEY,
            endpoint("10.0.0.1", "other"),
            endpoint("10.0.0.2", NODE, "unready"),
            endpoint("10.0.0.3", NODE, "leaving"),
            endpoint("10.0.0.4", NODE, "ending"),
            endpoint("fd00::1"),
        ),
        slice_of(KEY, endpoint("10.0.0.1"), number=2),
        slice_of(KEY, endpoint("10.0.0.9"), number=3, ports=(("web", 80, "TCP"),)),
        slice_of(KEY, endpoint("10.0.0.9"), number=4, ports=()),
        slice_of(KEY, endpoint("a.example"), number=5, family="FQDN"),
    )
    assert render(explain(world.table, KEY)) == EVERYTHING


def test_hints_and_policies_are_reasons() -> None:
    world = World()
    world.put(
        service(KEY, "172.30.0.1"),
        service("ns/local", "172.30.0.2", internal_traffic_policy="Local"),
        slice_of(
            KEY,
            endpoint("10.0.0.1", NODE, nodes=[NODE]),
            endpoint("10.0.0.2", "other", nodes=["other"]),
        ),
        slice_of("ns/local", endpoint("10.0.0.1", "other")),
    )
    (found,) = explain(world.table, KEY).ports
    assert found.mode == "same-node"
    assert [each.why for each in found.endpoints] == [
        "ready, here",
        "meant for node other",
    ]
    (found,) = explain(world.table, "ns/local").ports
    assert [each.why for each in found.endpoints] == [
        "on another node, and the policy is Local"
    ]
    assert [each.why for each in found.addresses] == [
        "internal policy Local, and no endpoint on this node can take traffic"
    ]
    assert "cluster 172.30.0.2:80: drop; internal policy Local, and no " in render(
        explain(world.table, "ns/local")
    )


def test_far_clients_that_are_dropped() -> None:
    world = World(Settings(NODE, node_ips=(NODE_IP,), cluster_cidrs=PODS))
    world.put(
        service(
            *(KEY, "172.30.0.1", port(80, node_port=3001)),
            type="NodePort",
            external_traffic_policy="Local",
        ),
        slice_of(KEY, endpoint("10.0.0.1", "other")),
    )
    said = (
        f"node-port {NODE_IP}:3001: Pods and this node serve, others drop; source kept"
    )
    assert said in render(explain(world.table, KEY))


def test_services_that_are_not_served() -> None:
    world = World()
    world.put(service(KEY, "None"))
    assert render(explain(world.table, KEY)) == (
        "ns/svc: not served: no cluster IP: headless\n"
    )
    assert render(explain(world.table, "ns/none")) == (
        "ns/none: not served: there is no such Service\n"
    )


def test_each_service_of_a_real_cluster_is_explained() -> None:
    replay = Replay()
    for phase, _ in replay.phases():
        for key in replay.stores["services"].objects:
            agrees(replay.table, explain(replay.table, key))
            assert render(explain(replay.table, key)).startswith(key), phase


@pytest.mark.slow
@given(things)
def test_what_is_said_is_what_is_done(found: list[Thing]) -> None:
    world = World()
    world.put(*found)
    for key in KEYS:
        agrees(world.table, explain(world.table, key))


def agrees(table: ServiceTable, said: Explanation) -> None:
    """Check an explanation against the pools and fronts of the table."""
    whole = table.whole()
    for each in said.ports:
        name = f"{said.key}:{each.name}/{each.protocol}/{each.family}"
        for which in ("cluster", "local"):
            uses = {(u.host, u.port) for u in each.endpoints if getattr(u, which)}
            pool = whole.pools.get(f"{name}#{which}")
            assert uses == {b.key for b in pool.backends} if pool else not uses
        for address in each.addresses:
            key = (each.protocol, address.host, address.port)
            front = whole.fronts[key]
            if not address.taken_by:
                assert (front.near, front.far) == (address.near, address.far)
