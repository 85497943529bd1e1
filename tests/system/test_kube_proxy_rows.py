"""Rows of upstream's tests that need a cluster, on a lab: who is answered, and by whom.

Source: kubernetes, test/e2e/network (service.go, networking.go, loadbalancer.go).
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.node import NODE, SPACE
from tests.support import netns
from tests.support.kube_lab import (
    BALANCED,
    FAMILIES,
    TOLD_S,
    Endpoint,
    KubeLab,
    answers,
    kube_lab,
    serving,
)
from tests.support.lab import SILENCE_S, Place
from tests.support.waiting import scaled, wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.netns,
    pytest.mark.root,
    pytest.mark.timeout(180),
    pytest.mark.parametrize("family", FAMILIES),
]

TRIES = 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeLab]:
    """A lab for all tests of this file."""
    if why := netns.obstacle() or netns.obstacle_to_loss():
        pytest.skip(why)
    with kube_lab(tmp_path_factory.mktemp("kube")) as made:
        yield made


@pytest.fixture
def rig(whole: KubeLab) -> Iterator[KubeLab]:
    """The lab, without Services."""
    yield whole
    whole.clear()


def is_silent(client: Place, host: str, tcp: int = 80, udp: int = 80) -> bool:
    """Whether neither a connection nor a datagram is answered at all."""
    asked = ((client.http, tcp), (client.udp, udp))
    return {ask(host, port, wait_s=SILENCE_S) for ask, port in asked} == {"silence"}


def hears(ask: Callable[..., str], host: str, port: int, names: set[str]) -> None:
    """Wait until all of them have answered."""
    heard: set[str] = set()

    def all_are() -> bool:
        heard.add(ask(host, port))
        return heard >= names

    wait_until(all_are, TOLD_S)


def test_pod_reaches_itself_through_its_service(rig: KubeLab, family: str) -> None:
    ip = rig.service("web", Endpoint(rig.near)).ip(family)
    for ask in (rig.near.http, rig.near.udp):
        answers(ask, ip, 80, rig.near.name, "hostname")
        # It cannot be told that it speaks with itself: a gateway stands between.
        own = rig.near.hosts[family]
        assert ask(ip, 80, "clientip") not in (own, "silence", "refused")


def test_one_number_leads_to_two_places_by_protocol(rig: KubeLab, family: str) -> None:
    ports = [
        {"name": "web", "port": 80, "protocol": "TCP"},
        {"name": "other", "port": 80, "protocol": "UDP"},
    ]
    ip = rig.service("web", Endpoint(rig.beside), ports=ports).ip(family)
    answers(rig.near.http, ip, 80, rig.beside.name, "hostname")
    # The slices have no port of that name: no endpoint of this protocol.
    answers(rig.near.udp, ip, 80, "refused", "hostname")
    answers(rig.near.udp, ip, 81, "refused", "hostname")
    answers(rig.near.http, ip, 81, "refused", "hostname")


def test_node_ports_answer_everybody_who_asks_the_node(
    rig: KubeLab, family: str
) -> None:
    made = rig.service("web", Endpoint(rig.there, "n2"), type="NodePort")
    host = rig.node.hosts[family]
    tcp, udp = made.node_port("tcp"), made.node_port("udp")
    for client in (rig.outside, rig.near, rig.node, rig.there):
        answers(client.http, host, tcp, rig.there.name, "hostname")
        answers(client.udp, host, udp, rig.there.name, "hostname")
    # The endpoint must answer this node: the client is not to be heard of.
    assert rig.outside.http(host, tcp, "clientip") == host
    assert rig.outside.udp(host, udp, "clientip") == host


def test_load_balancers_address_is_a_short_way_from_inside(
    rig: KubeLab, family: str
) -> None:
    both = (Endpoint(rig.beside), Endpoint(rig.there, "n2"))
    rig.service("web", *both, balanced=True, type="LoadBalancer")
    ip = BALANCED[family]
    names = {rig.beside.name, rig.there.name}
    for client in (rig.near, rig.node, rig.outside):
        for ask in (client.http, client.udp):
            hears(ask, ip, 80, names)


def test_source_ranges_drop_strangers_and_pods_alike(rig: KubeLab, family: str) -> None:
    allowed = [f"{host}/{32 if '.' in host else 128}"
               for host in rig.outside.hosts.values()]  # fmt: skip
    rig.service(
        *("web", Endpoint(rig.beside)),
        balanced=True,
        type="LoadBalancer",
        loadBalancerSourceRanges=allowed,
    )
    ip = BALANCED[family]
    answers(rig.outside.http, ip, 80, rig.beside.name, "hostname")
    answers(rig.outside.udp, ip, 80, rig.beside.name, "hostname")
    assert is_silent(rig.near, ip)


def test_internal_policy_local(rig: KubeLab, family: str) -> None:
    here, there = Endpoint(rig.beside), Endpoint(rig.there, "n2")
    made = rig.service("web", here, there, internalTrafficPolicy="Local")
    ip = made.ip(family)
    answers(rig.near.http, ip, 80, rig.beside.name, "hostname")
    for ask in (rig.near.http, rig.near.udp, rig.node.http, rig.node.udp):
        assert {ask(ip, 80) for _ in range(TRIES)} == {rig.beside.name}
    rig.endpoints("web", there)  # elsewhere there is one
    wait_until(lambda: is_silent(rig.near, ip), TOLD_S)
    rig.endpoints("web")  # nowhere is one
    answers(rig.near.http, ip, 80, "refused", "hostname")
    answers(rig.near.udp, ip, 80, "refused", "hostname")


def test_external_policy_local(rig: KubeLab, family: str) -> None:
    here, there = Endpoint(rig.beside), Endpoint(rig.there, "n2")
    made = rig.service(
        "web", here, there, type="NodePort", externalTrafficPolicy="Local"
    )
    host = rig.node.hosts[family]
    tcp, udp = made.node_port("tcp"), made.node_port("udp")
    own = rig.outside.hosts[family]
    answers(rig.outside.http, host, tcp, own, "clientip")
    answers(rig.outside.udp, host, udp, own, "clientip")
    assert {rig.outside.http(host, tcp) for _ in range(TRIES)} == {rig.beside.name}
    rig.endpoints("web", there)
    wait_until(lambda: is_silent(rig.outside, host, tcp, udp), TOLD_S)
    # From inside, any endpoint does.
    answers(rig.near.http, host, tcp, rig.there.name, "hostname")
    answers(rig.near.udp, host, udp, rig.there.name, "hostname")


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
@pytest.mark.parametrize("way", ["internal", "external"])
def test_endpoints_that_end_serve_when_no_others_do(
    rig: KubeLab, family: str, way: str, policy: str
) -> None:
    ending = Endpoint(rig.beside, ready=False, serving=True, terminating=True)
    spec: dict[str, Any] = {f"{way}TrafficPolicy": policy}
    made = rig.service("web", ending, type="NodePort", **spec)
    client, host, port = rig.near, made.ip(family), 80
    if way == "external":
        client, host, port = rig.outside, rig.node.hosts[family], made.node_port("tcp")
    answers(client.http, host, port, rig.beside.name, "hostname")
    other = Endpoint(rig.near if way == "external" else rig.node)
    rig.endpoints("web", ending, other)  # one that does not end comes first
    answers(client.http, host, port, other.place.name, "hostname")
    assert {client.http(host, port) for _ in range(TRIES)} == {other.place.name}
    rig.endpoints("web", ending._replace(serving=False))
    answers(client.http, host, port, "refused", "hostname")


def test_service_changes_its_type(rig: KubeLab, family: str) -> None:
    made = rig.service("web", Endpoint(rig.beside))
    ip, host = made.ip(family), rig.node.hosts[family]
    answers(rig.near.http, ip, 80, rig.beside.name, "hostname")
    port = rig.change("web", type="NodePort").node_port("tcp")
    answers(rig.outside.http, host, port, rig.beside.name, "hostname")
    answers(rig.near.http, ip, 80, rig.beside.name, "hostname")
    rig.change("web", type="ClusterIP")
    answers(rig.outside.http, host, port, "refused", "hostname")
    answers(rig.near.http, ip, 80, rig.beside.name, "hostname")


def test_port_comes_and_goes(rig: KubeLab, family: str) -> None:
    made = rig.service("web", Endpoint(rig.beside))
    ip, ports = made.ip(family), made.spec["ports"]
    answers(rig.near.http, ip, 80, rig.beside.name, "hostname")
    rig.change("web", ports=[{**ports[0], "port": 81}, ports[1]])
    answers(rig.near.http, ip, 81, rig.beside.name, "hostname")
    answers(rig.near.http, ip, 80, "refused", "hostname")
    answers(rig.near.udp, ip, 80, rig.beside.name, "hostname")


def test_one_dead_endpoint_of_three_fails_nobody(rig: KubeLab, family: str) -> None:
    http = {"ipv4": 9180, "ipv6": 9182}[family]
    places = (rig.beside, rig.near, rig.there)
    nodes = {rig.there: "n2"}
    with contextlib.ExitStack() as stack:
        for each in places:
            stack.enter_context(serving(rig.lab, each, http, http + 1))
        ends = [
            Endpoint(each, nodes.get(each, NODE), http=http, udp=http + 1)
            for each in places
        ]
        ip = rig.service("web", *ends).ip(family)
        every = {each.name for each in places}
        hears(rig.node.http, ip, 80, every)
        rig.beside.http(rig.beside.hosts[family], http, "exit")
        direct = (rig.beside.hosts[family], http)
        wait_until(lambda: rig.near.http(*direct) == "refused", TOLD_S)
        said = [rig.node.http(ip, 80) for _ in range(100)]
    assert set(said) == every - {rig.beside.name}


def test_rules_that_somebody_deletes_come_back(rig: KubeLab, family: str) -> None:
    ip = rig.service("web", Endpoint(rig.beside)).ip(family)
    answers(rig.near.http, ip, 80, rig.beside.name, "hostname")
    for table in rig.node.run("nft", "list", "tables").splitlines():
        if "pyproxy" in table:
            rig.node.run("nft", "delete", *table.split())
    assert rig.near.http(ip, 80, wait_s=SILENCE_S) != rig.beside.name
    wait_until(lambda: rig.near.http(ip, 80, wait_s=scaled(0.5)) == rig.beside.name, 40)
    answers(rig.near.udp, ip, 80, rig.beside.name, "hostname")


def test_service_made_again_is_served_again(rig: KubeLab, family: str) -> None:
    ip = rig.service("web", Endpoint(rig.beside)).ip(family)
    answers(rig.near.http, ip, 80, rig.beside.name, "hostname")
    rig.call("DELETE", f"{SPACE}/web")
    wait_until(lambda: is_silent(rig.near, ip), TOLD_S)
    again = rig.service("web", Endpoint(rig.beside)).ip(family)
    answers(rig.near.http, again, 80, rig.beside.name, "hostname")
    answers(rig.near.udp, again, 80, rig.beside.name, "hostname")
