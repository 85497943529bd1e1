"""Serve, reject or drop: decided by the kernel, before anything is accepted."""

from collections.abc import Sequence

import pytest

from pyproxy.capture import Fronts
from pyproxy.model import Access, Front
from tests.support.lab import ANSWER_S, SILENCE_S, Lab, Place
from tests.support.lab_proxy import Proxy, here

FAMILIES = ("ipv4", "ipv6")
CLUSTER = {"ipv4": "10.96.0.%d", "ipv6": "fd96::%d"}
BALANCER = {"ipv4": "203.0.113.%d", "ipv6": "2001:db8::%d"}
WORDS = {"serve": "served", "reject": "refused", "drop": "silence"}


def be_near(proxy: Proxy, networks: Sequence[str]) -> None:
    """Let the node change."""
    with proxy.node.entered():
        proxy.capture.open(here(networks))


def check(place: Place, front: Front, access: Access) -> None:
    """Fail unless clients at a place meet this at a front."""
    ask = place.http if front.protocol == "tcp" else place.udp
    wait_s = SILENCE_S if access == "drop" else ANSWER_S
    said = ask(front.host, front.port, wait_s=wait_s)
    met = said if said in WORDS.values() else "served"
    assert met == WORDS[access], place.name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("near", "far"),
    [
        ("serve", "drop"),  # externalTrafficPolicy Local, and no endpoint here
        ("drop", "serve"),  # internalTrafficPolicy Local likewise
        ("reject", "reject"),  # no endpoint anywhere
        ("serve", "reject"),
        ("reject", "drop"),
        ("drop", "reject"),
    ],
)
def test_near_and_far_clients_meet_what_the_front_says(
    lab: Lab, proxy: Proxy, family: str, protocol: str, near: Access, far: Access
) -> None:
    host = BALANCER[family] % 1
    front = Front(protocol, host, 80, near, far)  # type: ignore[arg-type]
    proxy.put(front, to=[lab.nodes[1].pods[0]])
    node = lab.nodes[0]
    check(node.pods[0], front, near)
    check(node, front, near)
    check(lab.outside[0], front, far)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rest", ["reject", "drop"])
def test_ports_that_no_front_names_are_refused_on_a_cluster_address(
    lab: Lab, proxy: Proxy, family: str, rest: Access
) -> None:
    host = CLUSTER[family] % 1
    served = Front("tcp", host, 80, "serve", "serve")
    others = [Front(p, host, 0, rest, rest) for p in ("tcp", "udp")]
    proxy.put(served, *others, to=[lab.nodes[0].pods[1]])
    for place in (lab.nodes[0].pods[0], lab.nodes[0], lab.outside[0]):
        check(place, served, "serve")
        check(place, Front("tcp", host, 81, rest, rest), rest)
        # A port of TCP alone is no port of UDP.
        check(place, Front("udp", host, 80, rest, rest), rest)
    proxy.remove(served.key)
    check(place, served, rest)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_sources_outside_their_ranges_are_dropped(
    lab: Lab, proxy: Proxy, family: str, protocol: str
) -> None:
    node, client = lab.nodes[0], lab.outside[0]
    host = BALANCER[family] % 1

    def meet(*places: Place, ranges: Sequence[str]) -> None:
        front = Front(protocol, host, 80, "serve", "serve", tuple(ranges))  # type: ignore[arg-type]
        proxy.put(front, to=[node.pods[1]])
        for place in (node.pods[0], node, client):
            wait_s = ANSWER_S if place in places else SILENCE_S
            ask = place.http if protocol == "tcp" else place.udp
            said = ask(host, 80, wait_s=wait_s)
            assert (said == "silence") == (place not in places), place.name

    outside = f"{client.hosts[family]}/{32 if family == 'ipv4' else 128}"
    meet(client, ranges=[outside])
    meet(node.pods[0], client, ranges=[outside, node.networks[family]])
    # Two that overlap, one of the other family, and one that is no network by itself.
    other = "ipv6" if family == "ipv4" else "ipv4"
    whole = {"ipv4": "192.168.50.9/24", "ipv6": "fd50::9/64"}[family]
    meet(node, client, ranges=[outside, whole, node.networks[other]])
    meet(ranges=[])
    front = Front(protocol, host, 80, "serve", "serve")  # type: ignore[arg-type]
    proxy.put(front, to=[node.pods[1]])
    check(client, front, "serve")


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_become_near_and_far(lab: Lab, proxy: Proxy, family: str) -> None:
    front = Front("tcp", BALANCER[family] % 1, 80, "serve", "reject")
    client, pod = lab.outside[0], lab.nodes[0].pods[0]
    proxy.put(front, to=[lab.nodes[0].pods[1]])
    check(client, front, "reject")
    be_near(proxy, ["0.0.0.0/0", "::/0"])
    check(client, front, "serve")
    be_near(proxy, ["192.168.50.0/24", "fd50::/64"])
    check(client, front, "serve")
    check(pod, front, "reject")
    assert proxy.capture.verify() == []
    be_near(proxy, [])
    check(client, front, "reject")
    check(lab.nodes[0], front, "serve")


def test_all_ports_of_an_address_are_never_served(lab: Lab, proxy: Proxy) -> None:
    with pytest.raises(ValueError, match="rejected or dropped"):
        proxy.put(Front("tcp", "10.96.0.1", 0, "serve", "reject"))


@pytest.mark.parametrize("family", FAMILIES)
def test_other_ports_of_cluster_addresses_and_unknown_addresses(
    lab: Lab, proxy: Proxy, family: str
) -> None:
    # Source: chains cluster-ips-check and the ServiceCIDRs of kube-proxy's nftables.
    host, unknown = CLUSTER[family] % 1, CLUSTER[family] % 2
    served = Front("tcp", host, 80, "serve", "serve")
    proxy.put(served, to=[lab.nodes[0].pods[1]])
    blocks = ("10.96.0.0/24", "fd96::/120")
    proxy.capture.update(Fronts(cluster_ips=[host], blocks=blocks))
    proxy.capture.update(Fronts(cluster_ips=[host], blocks=blocks))
    places = (lab.nodes[0].pods[0], lab.nodes[0], lab.outside[0])
    for place in places:
        check(place, served, "serve")
        for protocol in ("tcp", "udp"):
            other = Front(protocol, host, 81, "reject", "reject")
            check(place, other, "reject")
            nobodys = Front(protocol, unknown, 80, "drop", "drop")
            check(place, nobodys, "drop")
    with proxy.node.entered():
        assert proxy.capture.verify() == []
    proxy.capture.update(Fronts(remove_cluster_ips=[host, unknown]))
    check(lab.outside[0], Front("tcp", host, 81, "drop", "drop"), "drop")
    proxy.capture.update(Fronts(blocks=()))
    with proxy.node.entered():
        assert proxy.capture.verify() == []
