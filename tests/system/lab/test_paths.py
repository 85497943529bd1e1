"""Who reaches what through the kernel's capture.

Source: rows of the packet-flow tables of kube-proxy's nftables mode, as live packets.
"""

import socket
from collections.abc import Iterator

import pytest

from pyproxy.capture import Fronts
from pyproxy.model import Front
from tests.support.lab import HTTP, SETTINGS, SILENCE_S, UDP, Lab, Place
from tests.support.lab_proxy import Proxy
from tests.support.servers import receive_all

FAMILIES = ("ipv4", "ipv6")
CLUSTER = {"ipv4": "10.96.0.%d", "ipv6": "fd96::%d"}
BALANCER = {"ipv4": "203.0.113.%d", "ipv6": "2001:db8::%d"}
NEIGHBOUR = {"ipv4": "192.168.50.77", "ipv6": "fd50::77"}  # on the LAN, and of nobody


def who_asks(lab: Lab) -> Iterator[Place]:
    """A pod, its node, a pod of another node by way of this one, and a stranger."""
    node = lab.nodes[0]
    yield from (node.pods[0], node, lab.outside[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_all_reach_a_cluster_address(lab: Lab, proxy: Proxy, family: str) -> None:
    host = CLUSTER[family] % 1
    target = lab.nodes[0].pods[1]
    proxy.put(Front("tcp", host, 80, "serve", "serve"), to=[target])
    for place in who_asks(lab):
        assert place.http(host, 80) == target.name, place.name
    assert proxy.engine.stats().no_vip == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_datagrams_keep_both_addresses(lab: Lab, proxy: Proxy, family: str) -> None:
    host = CLUSTER[family] % 1
    proxy.put(Front("udp", host, 53, "serve", "serve"))
    for place in who_asks(lab):
        # In pieces, too: the kernel puts them together before it looks.
        for size in (1, 20_000):
            said = place.udp(host, 53, "x" * size)
            assert said == f"{place.hosts[family]} {host} {size}"


@pytest.mark.parametrize("family", FAMILIES)
def test_process_of_the_node_is_seen_with_the_nodes_address(
    lab: Lab, proxy: Proxy, family: str
) -> None:
    host = CLUSTER[family] % 1
    node, target = lab.nodes[0], lab.nodes[1].pods[0]
    proxy.put(Front("tcp", host, 80, "serve", "serve"), to=[target])
    assert node.http(host, 80, "clientip") == node.hosts[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_node_port_is_on_addresses_that_are_named_and_on_no_other(
    lab: Lab, proxy: Proxy, family: str
) -> None:
    node, target = lab.nodes[0], lab.nodes[1].pods[0]
    front = Front("tcp", node.hosts[family], 30080, "serve", "serve")
    loopback = {"ipv4": "127.0.0.1", "ipv6": "::1"}[family]
    proxy.put(front, to=[target])
    for place in who_asks(lab):
        assert place.http(front.host, 30080) == target.name, place.name
        assert place.http(front.host, 30081) == "refused", place.name
    assert node.http(loopback, 30080) == "refused"
    assert node.pods[0].http(node.gateways[family], 30080) == "refused"
    proxy.put(Front("tcp", loopback, 30080, "serve", "serve"), to=[target])
    assert node.http(loopback, 30080) == target.name


@pytest.mark.parametrize("family", FAMILIES)
def test_address_of_a_load_balancer_is_captured_port_by_port(
    lab: Lab, proxy: Proxy, family: str
) -> None:
    host = BALANCER[family] % 1
    node, target = lab.nodes[0], lab.nodes[0].pods[1]
    proxy.put(Front("tcp", host, 80, "serve", "serve"), to=[target])
    for place in who_asks(lab):
        assert place.http(host, 80) == target.name, place.name
    # Other ports are none of ours: packets go on to where they went before.
    before = forwarded(node)
    said = node.pods[0].http(host, 81, wait_s=SILENCE_S)
    assert said == "silence"
    assert forwarded(node) > before


def forwarded(place: Place) -> int:
    """How many packets a place has passed on, of both families."""
    four = place.run("cat", "/proc/net/snmp").splitlines()
    names, numbers = (line.split() for line in four if line.startswith("Ip:"))
    six = dict(line.split() for line in place.run("cat", SNMP6).splitlines())
    total = dict(zip(names, numbers, strict=True))["ForwDatagrams"]
    return int(total) + int(six["Ip6OutForwDatagrams"])


SNMP6 = "/proc/net/snmp6"


@pytest.mark.parametrize("family", FAMILIES)
def test_nobody_answers_for_a_captured_address(
    lab: Lab, proxy: Proxy, family: str
) -> None:
    # On the LAN itself: an answer would steal the address from its owner.
    host = NEIGHBOUR[family]
    node, client = lab.nodes[0], lab.outside[0]
    proxy.put(Front("tcp", host, 80, "serve", "serve"), to=[node.pods[0]])
    client.http(host, 80, wait_s=SILENCE_S)
    found = client.run("ip", "neigh", "show", host)
    assert "lladdr" not in found
    assert found


@pytest.mark.parametrize("family", FAMILIES)
def test_pod_reaches_itself(lab: Lab, proxy: Proxy, family: str) -> None:
    host = CLUSTER[family] % 1
    pod = lab.nodes[0].pods[0]
    proxy.put(Front("tcp", host, 80, "serve", "serve"), to=[pod])
    assert pod.http(host, 80) == pod.name
    assert pod.http(host, 80, "clientip") == lab.nodes[0].gateways[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_program_of_the_node_is_not_reached_through_a_service(
    lab: Lab, proxy: Proxy, family: str
) -> None:
    # It listens at all addresses; those of Services must not be among them.
    host, node = CLUSTER[family] % 1, lab.nodes[0]
    fronts = [
        Front("tcp", host, 80, "serve", "serve"),
        Front("tcp", host, 0, "reject", "reject"),
        Front("tcp", BALANCER[family] % 1, 80, "serve", "serve"),
    ]
    proxy.put(*fronts, to=[node.pods[0]])
    with node.entered():
        program = socket.create_server(("::", 9999), family=socket.AF_INET6)
    with program:
        for place in who_asks(lab):
            assert place.http(host, 9999) == "refused"
            said = place.http(BALANCER[family] % 1, 9999, wait_s=SILENCE_S)
            assert said in ("silence", "nowhere")
        program.setblocking(False)
        with pytest.raises(BlockingIOError):
            program.accept()


@pytest.mark.parametrize("family", FAMILIES)
def test_listener_itself_is_not_dialled(lab: Lab, proxy: Proxy, family: str) -> None:
    node = lab.nodes[0]
    for place in who_asks(lab):
        assert place.http(node.hosts[family], proxy.layout.tcp_port) == "refused"


@pytest.mark.parametrize("family", FAMILIES)
def test_client_may_use_its_port_again_at_once(
    lab: Lab, proxy: Proxy, family: str
) -> None:
    # The server ended first, so our socket is in TIME_WAIT: a SYN is for a listener.
    host = CLUSTER[family] % 1
    target = lab.nodes[1].pods[0]
    proxy.put(Front("tcp", host, 80, "serve", "serve"), to=[target])
    for place in who_asks(lab):
        before = again_sent(place)
        for _ in range(4):
            said = until_end(place, (host, 80), local=23456)
            assert said.endswith(target.name), place.name
            waiting = lab.nodes[0].run("ss", "-tan", "state", "time-wait")
            assert ":23456" in waiting
        assert again_sent(place) == before, place.name


def again_sent(place: Place) -> int:
    """How many SYNs a place had to send again."""
    lines = place.run("cat", "/proc/net/netstat").splitlines()
    names, numbers = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(dict(zip(names, numbers, strict=True))["TCPSynRetrans"])


def until_end(place: Place, address: tuple[str, int], local: int) -> str:
    """Ask for a name from a port, and close when the server has done so."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with place.entered(), socket.socket(family) as asking:
        asking.settimeout(3)
        asking.bind(("", local))
        asking.connect(address)
        asking.sendall(b"GET /hostname HTTP/1.1\r\nConnection: close\r\n\r\n")
        return receive_all(asking).decode()


@pytest.mark.parametrize("family", FAMILIES)
def test_source_of_a_pod_can_be_kept_towards_every_pod(
    lab: Lab, proxy: Proxy, family: str
) -> None:
    # Replies to a pod's address that are for a socket of the node: from the same
    # bridge, where frames would go to that pod, from another node, and from a program
    # of this node itself.
    node = lab.nodes[0]
    client = node.pods[0].hosts[family]
    for target in (node.pods[1], lab.nodes[1].pods[0], node):
        asked = ask_as(node, client, (target.hosts[family], HTTP))
        assert asked.endswith(f"\r\n{client}"), target.name
        host = target.hosts[family]
        if target is node:  # a program that answers from the address nearest to the pod
            host = node.gateways[family]
        assert ask_as(node, client, (host, UDP)) == client


def ask_as(node: Place, source: str, target: tuple[str, int]) -> str:
    """Ask who asks, from an address that is not the node's."""
    six = ":" in source
    family = socket.AF_INET6 if six else socket.AF_INET
    level, option = (socket.IPPROTO_IPV6, 75) if six else (socket.IPPROTO_IP, 19)
    tcp = target[1] == HTTP
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with node.entered(), socket.socket(family, kind) as asking:
        asking.setsockopt(level, option, 1)
        asking.settimeout(3)
        asking.bind((source, 0))
        asking.connect(target)
        request = b"GET /clientip HTTP/1.1\r\nConnection: close\r\n\r\n"
        asking.sendall(request if tcp else b"clientip")
        return asking.recv(1000).decode()


@pytest.fixture
def narrow(lab: Lab) -> Iterator[Place]:
    """A client behind a router whose link to it is narrow, which nobody can see."""
    place = Place("narrow", "198.51.100.2", "2001:db8:3::2")
    try:
        lan, node = lab.lan, lab.nodes[0]
        lan.run("sysctl", "-qw", *SETTINGS)
        lan.link(f"link add narrow0 type veth peer name eth0 netns {place.ns.name}")
        lan.link("link set narrow0 mtu 1300 up")
        place.link("link set eth0 up")
        lan.ip(
            "-4 addr add 198.51.100.1/24 dev narrow0",
            "-6 addr add 2001:db8:3::1/64 dev narrow0 nodad",
        )
        place.ip(
            "-4 addr add 198.51.100.2/24 dev eth0",
            "-6 addr add 2001:db8:3::2/64 dev eth0 nodad",
            "-4 route add default via 198.51.100.1",
            "-6 route add default via 2001:db8:3::1",
        )
        lab.route(lan, node, "10.96.0.0/16", "fd96::/64")
        yield place
    finally:
        place.ns.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_router_that_refuses_large_packets_is_heard(
    lab: Lab, proxy: Proxy, narrow: Place, family: str
) -> None:
    # Its ICMP error is for the address of the Service, which no machine has.
    host = CLUSTER[family] % 1
    proxy.put(Front("tcp", host, 80, "serve", "serve"), to=[lab.nodes[0].pods[1]])
    proxy.capture.update(
        Fronts(cluster_ips=[host], blocks=("10.96.0.0/16", "fd96::/64"))
    )
    long = "x" * 30_000
    assert narrow.http(host, 80, f"echo?msg={long}") == long
