"""What a node is to Services: names of addresses, Pods and zones, and leaving."""

import json
from typing import Any

import msgspec
import pytest

from pyproxy.discovery.services import Settings, here_of, is_eligible
from pyproxy.kube.machines import Node
from pyproxy.kube.resource import NODES
from tests.support import kube_golden

LOCAL = ("127.0.0.1", "::1", "10.0.0.7", "10.0.0.8", "fd00::7", "fe80::7")


def node(*addresses: tuple[str, str], **more: Any) -> Node:
    """Return a Node with addresses by type."""
    said = [{"type": kind, "address": address} for kind, address in addresses]
    raw = {"metadata": {}, "spec": {}, "status": {"addresses": said}}
    return msgspec.convert({**raw, **more}, Node)


ADDRESSES = {
    "internal": ((("InternalIP", "10.0.0.7"), ("ExternalIP", "192.0.2.7")), "10.0.0.7"),
    "external alone": ((("Hostname", "n"), ("ExternalIP", "192.0.2.7")), "192.0.2.7"),
    "internal wins, wherever it stands": (
        (("ExternalIP", "192.0.2.7"), ("InternalIP", "10.0.0.7")),
        "10.0.0.7",
    ),
    "the first of two": (
        (("InternalIP", "10.0.0.8"), ("InternalIP", "10.0.0.7")),
        "10.0.0.8",
    ),
    "a name is none": ((("InternalIP", "node.example"),), ""),
    "none": ((), ""),
}


@pytest.mark.parametrize(("said", "ip"), ADDRESSES.values(), ids=ADDRESSES)
def test_the_address_of_a_node(said: tuple[tuple[str, str], ...], ip: str) -> None:
    found = here_of(Settings("n"), node(*said), LOCAL)
    assert found.ipv4.node_ip == ip
    assert found.ipv4.node_ports == ((ip,) if ip else ())
    assert bool(found.complaints) is not bool(ip)


def test_each_family_has_its_own() -> None:
    said = (("InternalIP", "10.0.0.7"), ("InternalIP", "FD00:0::7"))
    found = here_of(Settings("n"), node(*said), LOCAL)
    assert (found.ipv4.node_ip, found.ipv6.node_ip) == ("10.0.0.7", "fd00::7")
    given = here_of(Settings("n", node_ips=("10.0.0.8",)), node(*said), LOCAL)
    assert (given.ipv4.node_ip, given.ipv6.node_ip) == ("10.0.0.8", "fd00::7")


DETECTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...], bool]] = {
    "cluster": (
        {"cluster_cidrs": ("10.4.0.0/14", "fd04::/48")},
        ("10.4.0.0/14",),
        True,
    ),
    "cluster, not said": ({}, (), False),
    "cluster, other family": ({"cluster_cidrs": ("fd04::/48",)}, (), False),
    "node": ({"detect_local": "node-cidr"}, ("10.5.1.0/24",), True),
    "none": ({"detect_local": "none", "cluster_cidrs": ("10.4.0.0/14",)}, (), False),
}


@pytest.mark.parametrize(("said", "pods", "known"), DETECTIONS.values(), ids=DETECTIONS)
def test_near_clients(said: dict[str, Any], pods: tuple[str, ...], known: bool) -> None:
    spec = {"podCIDR": "10.5.1.0/24", "podCIDRs": ["10.5.1.0/24", "fd05:1::/64"]}
    made = node(("InternalIP", "10.0.0.7"), spec=spec)
    found = here_of(Settings("n", **said), made, LOCAL).ipv4
    own = ("127.0.0.0/8", "10.0.0.7/32", "10.0.0.8/32", "127.0.0.1/32")
    assert found.near == (*pods, *own)
    assert found.knows_pods is known


def test_what_makes_no_sense_is_told() -> None:
    wrong = Settings(
        "n",
        node_ips=("10.0.0.7",),
        node_port_addresses=("10.0.0.0/24", "everywhere"),
        cluster_cidrs=("pods",),
    )
    assert here_of(wrong, None, LOCAL).complaints == (
        "node port addresses: 'everywhere' is no network",
        "'pods' is no network of Pods",
    )


def test_zones_of_a_real_node() -> None:
    zones = []
    for raw in kube_golden.objects("nodes"):
        if raw["metadata"]["name"] == "knode0":
            made = NODES.decoder.decode(json.dumps(raw))
            zones.append(here_of(Settings("knode0"), made, ()).zone)
    assert zones == ["", *["za"] * (len(zones) - 1)]
    assert len(zones) > 1


@pytest.mark.parametrize(
    ("more", "eligible"),
    [
        ({}, True),
        ({"spec": {"unschedulable": True}}, True),
        ({"spec": {"taints": [{"key": "node.kubernetes.io/unschedulable"}]}}, True),
        ({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}}, False),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, False),
    ],
)
def test_a_node_that_leaves_is_not_eligible(
    more: dict[str, Any], eligible: bool
) -> None:
    assert is_eligible(node(**more)) is eligible
