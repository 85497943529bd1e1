"""Where a packet goes, from whom it may come, and whose address the endpoint sees.

Source: the packet flows of kubernetes, pkg/proxy/nftables/proxier_test.go (1.36), in
own words. `True` = the endpoint sees this node. For clients on this node that is what
they are anyway, so their rows do not say it; nor is SCTP there, which is not carried.
"""

import pytest

from pyproxy.discovery.services import Settings, here_of
from pyproxy.kube.objects import ServiceCIDR, ServiceCIDRSpec
from tests.support.services_rig import (
    BLOCKED,
    CLIENT,
    CLIENT6,
    EXTERNAL_IP,
    LB_IP,
    LB_IP2,
    NODE,
    NODE_IP,
    NODE_IP6,
    NODE_IP6_ALT,
    NODE_IP_ALT,
    NODE_IPS,
    POD,
    POD6,
    PODS,
    USUAL,
    Flow,
    World,
    check_flows,
    endpoint,
    port,
    service,
    slice_of,
)

HTTP = (("http", 80, "TCP"),)
NAMES = ("http", "https", "dns-udp", "dns-tcp")


def two_services() -> World:
    """Return one with a port and one with many; SCTP is none of ours."""
    protocols = ("TCP", "TCP", "UDP", "TCP")
    targets = zip(NAMES, (80, 8443, 53, 5353), protocols, strict=True)
    numbers = zip(NAMES, (80, 443, 53, 53), protocols, strict=True)
    ports = [port(number, name, protocol=kind) for name, number, kind in numbers]
    both = (endpoint("10.180.0.1", NODE), endpoint("10.180.2.1", "node2"))
    world = World()
    world.put(
        service("ns1/svc1", "172.30.0.41", port(80, "http")),
        service("ns2/svc2", "172.30.0.42", *ports, port(53, "sctp", protocol="SCTP")),
        slice_of("ns1/svc1", both[0], ports=HTTP),
        slice_of("ns2/svc2", *both, ports=targets),
    )
    return world


def test_cluster_ip() -> None:
    world = two_services()
    other = "10.180.0.2"
    check_flows(
        world,
        {
            "simple": (other, "172.30.0.41", 80, "tcp", "10.180.0.1:80", False),
            "two endpoints": (
                *(other, "172.30.0.42", 80, "tcp"),
                *("10.180.0.1:80, 10.180.2.1:80", False),
            ),
            "another target port": (
                *(other, "172.30.0.42", 443, "tcp"),
                *("10.180.0.1:8443, 10.180.2.1:8443", False),
            ),
            "one number, TCP": (
                *(other, "172.30.0.42", 53, "tcp"),
                *("10.180.0.1:5353, 10.180.2.1:5353", False),
            ),
            "one number, UDP": (
                *(other, "172.30.0.42", 53, "udp"),
                *("10.180.0.1:53, 10.180.2.1:53", False),
            ),
            "UDP at a TCP port": (other, "172.30.0.42", 80, "udp", "REJECT", False),
            "a port of the other": (other, "172.30.0.41", 443, "tcp", "REJECT", False),
        },
    )
    assert world.table.complaints("ns2/svc2") == ("port 53: SCTP is not carried",)


def test_load_balancer_with_source_ranges() -> None:
    world = World()
    world.put(
        service(
            "ns1/svc1",
            "172.30.0.41",
            port(80, node_port=3001),
            type="LoadBalancer",
            ingress=(LB_IP, LB_IP2),
            load_balancer_source_ranges=(
                "192.168.0.0/24",
                " 203.0.113.0/25",
                "fd00::/8",
            ),
        ),
        slice_of("ns1/svc1", endpoint("10.180.0.1")),
    )
    ep = "10.180.0.1:80"
    flows: dict[str, Flow] = {
        "Pod, cluster IP": (POD, "172.30.0.41", 80, "tcp", ep, False),
        "client, node port": (CLIENT, NODE_IP, 3001, "tcp", ep, True),
        "blocked client, node port": (BLOCKED, NODE_IP, 3001, "tcp", ep, True),
    }
    for ip in (LB_IP, LB_IP2):
        flows |= {
            f"client, {ip}": (CLIENT, ip, 80, "tcp", ep, True),
            f"blocked client, {ip}": (BLOCKED, ip, 80, "tcp", "DROP", False),
            f"Pod, {ip}": (POD, ip, 80, "tcp", "DROP", False),
            f"node, {ip}": (NODE_IP, ip, 80, "tcp", ep, None),
            f"node that has {ip} itself": (ip, ip, 80, "tcp", ep, None),
        }
    check_flows(world, flows)


def test_source_ranges_without_this_node_keep_the_load_balancers_own_address_out() -> (
    None
):
    world = World()
    ranges = ("203.0.113.0/25",)
    world.put(
        service(
            "ns1/svc1",
            "172.30.0.41",
            ingress=(LB_IP,),
            load_balancer_source_ranges=ranges,
        ),
        slice_of("ns1/svc1", endpoint("10.180.0.1")),
    )
    assert world.flow(LB_IP, LB_IP, 80) == ("DROP", False)
    assert world.flow(NODE_IP, LB_IP, 80) == ("DROP", False)


@pytest.mark.parametrize(
    ("ranges", "outcome"),
    [
        (("fd00::/8",), "10.180.0.1:80"),  # the other family alone
        (("nonsense",), "DROP"),  # nobody, rather than everybody
        (("nonsense", "fd00::/8"), "10.180.0.1:80"),
        (("203.0.113.2/25",), "10.180.0.1:80"),  # bits below the mask
    ],
)
def test_odd_source_ranges(ranges: tuple[str, ...], outcome: str) -> None:
    world = World()
    world.put(
        service(
            "ns1/svc1",
            "172.30.0.41",
            ingress=(LB_IP,),
            load_balancer_source_ranges=ranges,
        ),
        slice_of("ns1/svc1", endpoint("10.180.0.1")),
    )
    assert world.flow(CLIENT, LB_IP, 80)[0] == outcome
    has_complaint = "source range 'nonsense' is no network"
    assert (has_complaint in world.table.complaints("ns1/svc1")) == (
        "nonsense" in ranges
    )


def test_an_external_ip_that_is_a_load_balancers_keeps_its_source_ranges() -> None:
    world = World()
    world.put(
        service(
            "ns1/svc1",
            "172.30.0.41",
            ingress=(LB_IP,),
            external_ips=(LB_IP,),
            load_balancer_source_ranges=("203.0.113.0/25",),
        ),
        slice_of("ns1/svc1", endpoint("10.180.0.1")),
    )
    assert world.flow(BLOCKED, LB_IP, 80) == ("DROP", False)
    assert world.table.complaints("ns1/svc1") == ()


NODE_PORTS = {
    "nothing said": ((), False, False),
    "primary": (("primary",), False, False),
    "networks": (
        ("192.168.0.0/24", "192.168.1.0/24", "2001:db8::/64", "2001:db8:1::2/128"),
        *(True, True),
    ),
    "networks of IPv4": (("192.168.0.0/24",), False, True),  # IPv6: all
    "all": (("all",), True, True),
    "keyword and network": (("primary", "192.168.1.0/24"), True, False),
    "nonsense": (("nonsense",), False, False),
}


@pytest.mark.parametrize(("said", "alt4", "alt6"), NODE_PORTS.values(), ids=NODE_PORTS)
@pytest.mark.parametrize("family", [4, 6])
def test_node_ports(said: tuple[str, ...], alt4: bool, alt6: bool, family: int) -> None:
    settings = Settings(
        NODE, node_ips=(NODE_IP, NODE_IP6), cluster_cidrs=PODS, node_port_addresses=said
    )
    world = World(settings)
    ip, first, second = (
        ("172.30.0.41", "10.180.0.1", "10.180.2.1")
        if family == 4
        else ("fd00:172:30::41", "fd00:10:180::1", "fd00:10:180::2:1")
    )
    node, alt, pod, client, has_alt = (
        (NODE_IP, NODE_IP_ALT, POD, CLIENT, alt4)
        if family == 4
        else (NODE_IP6, NODE_IP6_ALT, POD6, CLIENT6, alt6)
    )
    world.put(
        service("ns1/svc1", ip, port(80, node_port=3001), type="NodePort"),
        slice_of("ns1/svc1", endpoint(first), endpoint(second, NODE)),
    )
    both = f"{first}:80, {second}:80"
    check_flows(
        world,
        {
            "Pod, cluster IP": (pod, ip, 80, "tcp", both, False),
            "client, node port": (client, node, 3001, "tcp", both, True),
            "node, node port": (node, node, 3001, "tcp", both, None),
            "client, other address": (
                *(client, alt, 3001, "tcp"),
                *((both, True) if has_alt else ("", False)),
            ),
        },
    )


def test_node_ports_of_localhost() -> None:
    settings = Settings(NODE, node_ips=(NODE_IP,), node_port_addresses=("localhost",))
    world = World(settings)
    world.put(
        service("ns1/svc1", "172.30.0.41", port(80, node_port=3001), type="NodePort"),
        slice_of("ns1/svc1", endpoint("10.180.0.1")),
    )
    assert world.flow("127.0.0.1", "127.0.0.1", 3001) == ("10.180.0.1:80", True)
    assert world.flow(CLIENT, NODE_IP, 3001) == ("", False)


def test_node_ports_at_all_addresses_leave_those_of_one_link_out() -> None:
    settings = Settings(NODE, node_port_addresses=("all",))
    here = here_of(settings, None, [*NODE_IPS, "fe80::1"])
    assert set(here.ipv4.node_ports) | set(here.ipv6.node_ports) == {*NODE_IPS}


@pytest.mark.parametrize("policy", ["Local", "Cluster"])
def test_external_traffic_policy(policy: str) -> None:
    world = World()
    world.put(
        service(
            "ns1/svc1",
            "172.30.0.41",
            port(80, node_port=3001),
            type="LoadBalancer",
            external_traffic_policy=policy,
            external_ips=(EXTERNAL_IP,),
            ingress=(LB_IP,),
        ),
        slice_of("ns1/svc1", endpoint("10.180.0.1"), endpoint("10.180.2.1", NODE)),
    )
    both, here = "10.180.0.1:80, 10.180.2.1:80", "10.180.2.1:80"
    is_local = policy == "Local"
    flows: dict[str, Flow] = {
        "Pod, cluster IP": (POD, "172.30.0.41", 80, "tcp", both, False)
    }
    for ip, number in ((EXTERNAL_IP, 80), (LB_IP, 80), (NODE_IP, 3001)):
        flows[f"Pod, {ip}"] = (POD, ip, number, "tcp", both, not is_local)
        where = here if is_local else both
        flows[f"client, {ip}"] = (CLIENT, ip, number, "tcp", where, not is_local)
    check_flows(world, flows)


def test_external_ips_need_the_switch() -> None:
    world = World(Settings(NODE, node_ips=(NODE_IP,), cluster_cidrs=PODS))
    world.put(
        service("ns1/svc1", "172.30.0.41", external_ips=(EXTERNAL_IP,)),
        slice_of("ns1/svc1", endpoint("10.180.0.1")),
    )
    assert world.flow(CLIENT, EXTERNAL_IP, 80) == ("", False)
    assert "externalIPs are not served" in world.table.complaints("ns1/svc1")[0]


def test_modes_of_a_load_balancers_addresses() -> None:
    ingress = (
        {"ip": "1.2.3.4", "ipMode": "VIP"},
        {"ip": "5.6.7.8", "ipMode": "Proxy"},
        {"ip": "9.10.11.12"},
        {"hostname": "lb.example"},
        {"ip": "2001:db8::99"},
        {"ip": "nonsense"},
    )
    world = World()
    world.put(
        service("ns1/svc1", "172.30.0.41", type="LoadBalancer", ingress=ingress),
        slice_of("ns1/svc1", endpoint("10.180.0.1")),
    )
    ep = "10.180.0.1:80"
    for ip, outcome in (("1.2.3.4", ep), ("5.6.7.8", ""), ("9.10.11.12", ep)):
        assert world.flow(CLIENT, ip, 80)[0] == outcome
        assert world.flow(POD, ip, 80)[0] == outcome
    assert world.flow(CLIENT6, "2001:db8::99", 80) == ("", False)
    assert world.table.complaints("ns1/svc1") == ("'nonsense' is no address",)


@pytest.mark.parametrize(
    "ip", ["0.0.0.0", "127.0.0.1", "::", "::1", "224.0.0.1", "169.254.1.1", "fe80::1"]
)
def test_addresses_that_mean_this_host_are_no_services(ip: str) -> None:
    world = World()
    world.put(
        service(
            *("ns1/svc1", ("172.30.0.41", "fd00:172:30::41")),
            ingress=(ip,),
            external_ips=(ip,),
        ),
        slice_of("ns1/svc1", endpoint("10.180.0.1")),
    )
    hosts = {host for _, host, _ in world.table.whole().fronts}
    assert hosts == {"172.30.0.41", "fd00:172:30::41"}
    assert world.table.complaints("ns1/svc1") == (f"{ip} is not served",) * 2


def test_blocks_of_cluster_ips() -> None:
    world = World()
    first = ServiceCIDR(
        spec=ServiceCIDRSpec(cidrs=("172.30.0.0/16", "fd00:172:30::/108"))
    )
    more = ServiceCIDR(spec=ServiceCIDRSpec(cidrs=("172.31.0.0/16", "nonsense")))
    assert world.flow(POD, "172.30.0.50", 80) == ("", False)
    world.table.set_blocks([first])
    assert world.table.take().blocks == ("172.30.0.0/16", "fd00:172:30::/108")
    assert world.flow(POD, "172.30.0.50", 80) == ("DROP", False)
    assert world.flow(POD, "172.31.0.50", 80) == ("", False)
    world.table.set_blocks([more, first])
    assert world.table.take().blocks == (
        "172.30.0.0/16",
        "172.31.0.0/16",
        "fd00:172:30::/108",
    )
    assert world.flow(POD, "172.31.0.50", 80) == ("DROP", False)
    world.table.set_blocks([first, more])
    assert world.table.take().is_empty


def test_both_families_are_two_halves() -> None:
    world = World()
    world.put(
        service(
            "ns1/svc1", ("172.30.0.41", "fd00:172:30::41"), port(80, node_port=3001)
        ),
        slice_of("ns1/svc1", endpoint("10.180.0.1")),
    )
    assert world.flow(POD, "172.30.0.41", 80) == ("10.180.0.1:80", False)
    assert world.flow(POD6, "fd00:172:30::41", 80) == ("REJECT", False)
    assert world.flow(CLIENT6, NODE_IP6, 3001) == ("REJECT", False)
    world.put(slice_of("ns1/svc1", endpoint("fd00:10:180::1"), number=2))
    assert world.flow(POD6, "fd00:172:30::41", 80) == ("fd00:10:180::1:80", False)
    assert world.flow(POD, "172.30.0.41", 80) == ("10.180.0.1:80", False)


def test_a_family_without_cluster_ip_has_no_other_address_either() -> None:
    world = World()
    world.put(
        service(
            "ns1/svc1",
            "172.30.0.41",
            port(80, node_port=3001),
            ingress=("2001:db8::9",),
        ),
        slice_of("ns1/svc1", endpoint("fd00:10:180::1")),
    )
    assert world.flow(CLIENT6, NODE_IP6, 3001) == ("", False)
    assert world.flow(CLIENT6, "2001:db8::9", 80) == ("", False)
    assert world.flow(CLIENT, NODE_IP, 3001) == ("REJECT", False)
    assert USUAL.selector == (
        "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless"
    )
