"""The agent with its real parts."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyproxy.config import convert
from pyproxy.kube.objects import EndpointPort, ObjectMeta, Service, ServicePort
from pyproxy.kube.objects import ServiceSpec as Spec
from pyproxy.kube.slices import BriefEndpoint, BriefSlice
from pyproxy.kube.store import Store
from pyproxy.modes.kube_proxy import KubeProxy, wiring
from tests.fakes.bastion import own_address
from tests.fakes.cluster import refuses
from tests.fakes.node import NODE, SLICES, SPACE, Cluster, cluster_in, wait_for_metric
from tests.support.servers import EchoServer
from tests.support.waiting import scaled, wait_until


def test_settings_of_the_table_are_those_of_the_file() -> None:
    config = convert(
        {
            "hostnameOverride": "n",
            "nodePortAddresses": ["localhost", "10.0.0.0/8"],
            "bindAddress": "10.0.0.1",
            "detectLocalMode": "NodeCIDR",
            "externalIPs": True,
            "masqueradeAll": True,
            "serviceProxyName": "ours",
            "udpTimeout": "10s",
            "udpStreamTimeout": "20s",
            "timeouts": {"connect": "1s", "tcpIdle": "2h"},
        },
        KubeProxy,
    )
    found = wiring.settings_of(config, bind=True)
    assert found.node_name == "n"
    assert found.node_port_addresses == ("localhost", "10.0.0.0/8")
    assert found.node_ips == ("10.0.0.1",)
    assert found.detect_local == "node-cidr"
    assert found.external_ips
    assert found.masquerade_all
    assert found.bind
    assert (found.connect_timeout_s, found.tcp_idle_s) == (1, 7200)
    assert (found.udp_one_way_s, found.udp_two_way_s) == (10, 20)
    assert wiring.selector(config) == (
        "service.kubernetes.io/service-proxy-name=ours,!service.kubernetes.io/headless"
    )


@pytest.mark.parametrize("mode", ["BridgeInterface", "InterfaceNamePrefix"])
def test_interfaces_are_no_matter_of_the_table(mode: str) -> None:
    names = {"bridgeInterface": "b", "interfaceNamePrefix": "v"}
    config = convert({"detectLocalMode": mode, "detectLocal": names}, KubeProxy)
    assert wiring.settings_of(config).detect_local == "none"


def table_with(node: str, **spec: Any) -> wiring.NodeTable:
    """A table of one Service with one endpoint on a node; we are `here`."""
    config = convert({"hostnameOverride": "here"}, KubeProxy)
    services: Store[Service] = Store()
    slices: Store[BriefSlice] = Store(wiring.INDEXES)
    at = wiring.here(config, None, ("127.0.0.1",))
    table = wiring.table(config, at, services, slices, False)
    ports = (ServicePort(name="web", port=80, node_port=30080),)
    services.upsert(
        Service(
            metadata=ObjectMeta(name="b", namespace="a"),
            spec=Spec(
                cluster_ip="10.0.0.1", cluster_ips=("10.0.0.1",), ports=ports, **spec
            ),
        )
    )
    labels = {"kubernetes.io/service-name": "b"}
    endpoints = (BriefEndpoint(addresses=("10.1.0.1",), node_name=node),)
    slices.upsert(
        BriefSlice(
            metadata=ObjectMeta(name="b-1", namespace="a", labels=labels),
            address_type="IPv4",
            endpoints=endpoints,  # type: ignore[arg-type]
            ports=(EndpointPort(name="web", port=8080),),
        )
    )
    table.mark_all()
    table.take()
    return table


@pytest.mark.parametrize(
    ("node", "spec", "expected"),
    [
        ("there", {}, (0, 0)),
        ("there", {"internal_traffic_policy": "Local"}, (1, 0)),
        ("here", {"internal_traffic_policy": "Local"}, (0, 0)),
        ("there", {"type": "NodePort", "external_traffic_policy": "Local"}, (0, 1)),
        ("here", {"type": "NodePort", "external_traffic_policy": "Local"}, (0, 0)),
    ],
)
def test_services_without_an_endpoint_here_are_counted(
    node: str, spec: dict[str, object], expected: tuple[int, int]
) -> None:
    found = table_with(node, **spec).no_local_endpoints
    assert (found["internal"], found["external"]) == expected


def test_explanation_is_plain_json() -> None:
    said = table_with("there").explain("a/b")
    assert said is not None
    again: dict[str, Any] = json.loads(json.dumps(said))
    assert again == said
    assert again["type"] == "ClusterIP"
    (port,) = again["ports"]
    (endpoint,) = port["endpoints"]
    assert endpoint["host"] == "10.1.0.1"
    assert endpoint["why"]
    assert table_with("there").explain("no/such") is None


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """With a Node and no Service."""
    with cluster_in(tmp_path) as made:
        yield made


def echoes(port: int) -> bool:
    """Whether a node port of the loopback is served."""
    try:
        with socket.create_connection(("127.0.0.1", port), scaled(5)) as client:
            client.sendall(b"hello")
            return client.recv(5) == b"hello"
    except OSError:
        return False


@pytest.mark.live
@pytest.mark.slow
@pytest.mark.skipif(not own_address(), reason="only loopback addresses here")
def test_node_ports_of_a_cluster_are_served_on_localhost(cluster: Cluster) -> None:
    own = own_address()
    with EchoServer(own) as server:
        spec = {
            "type": "NodePort",
            "ports": [{"name": "web", "port": 80, "nodePort": 30123}],
        }
        cluster.call("POST", SPACE, {"metadata": {"name": "web"}, "spec": spec})
        cluster.call("POST", SLICES, slice_at(own, server.address[1]))
        flags = ("--nodeport-addresses=localhost", "--capture=bind")
        with cluster.agent(*flags, environment={"REAL_PARTS": "1"}) as agent:
            agent.serving()
            wait_until(lambda: echoes(30123), 20, "node port")
            said = json.loads(agent.get("/debug/explain?service=agent/web")[1])
            assert said["type"] == "NodePort"
            used = [e for p in said["ports"] for e in p["endpoints"]]
            assert used[0]["host"] == own
            assert said["connections"][0]["accepted"] >= 1
            name = "kubeproxy_sync_proxy_rules_service_changes_pending"
            wait_for_metric(agent, name, 0)
            path = f"{SLICES}/web-1"
            cluster.call("DELETE", path)
            wait_until(lambda: refuses(("127.0.0.1", 30123)), 20, "no endpoint")


def slice_at(host: str, port: int) -> dict[str, object]:
    """Return a slice of `web` with one endpoint here."""
    return {
        "metadata": {
            "name": "web-1",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [host], "nodeName": NODE}],
        "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
    }
