"""What a kube proxy in user space was never able to do, each in both families.

The groups of upstream's tests that kpng skips for its backend in user space.
"""

import contextlib
import json
import time
from collections.abc import Iterator

import pytest

from tests.support import netns
from tests.support.kube_lab import (
    FAMILIES,
    HEALTHZ_PORT,
    TOLD_S,
    Client,
    Endpoint,
    KubeLab,
    answers,
    kube_lab,
)
from tests.support.lab import Place
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.netns,
    pytest.mark.root,
    pytest.mark.timeout(180),
    pytest.mark.parametrize("family", FAMILIES),
]

TRIES = 30  # after which each of two endpoints has answered, surely


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


@pytest.mark.parametrize("where", ["same node", "another node"])
def test_pods_keep_their_address_towards_a_cluster_ip(
    rig: KubeLab, family: str, where: str
) -> None:
    target = Endpoint(rig.beside) if where == "same node" else Endpoint(rig.there, "n2")
    ip = rig.service("web", target).ip(family)
    own = rig.near.hosts[family]
    answers(rig.near.http, ip, 80, own, "clientip")
    answers(rig.near.udp, ip, 80, own, "clientip")


def test_clients_are_rejected_without_endpoints(rig: KubeLab, family: str) -> None:
    ip = rig.service("none").ip(family)
    for client in (rig.near, rig.node):
        answers(client.http, ip, 80, "refused", "hostname")
        answers(client.udp, ip, 80, "refused", "hostname")


def test_clients_are_rejected_when_all_endpoints_are_evicted(
    rig: KubeLab, family: str
) -> None:
    ip = rig.service("web", Endpoint(rig.beside)).ip(family)
    answers(rig.near.http, ip, 80, rig.beside.name, "hostname")
    answers(rig.near.udp, ip, 80, rig.beside.name, "hostname")
    rig.endpoints("web", Endpoint(rig.beside, ready=False, serving=False))
    answers(rig.near.http, ip, 80, "refused", "hostname")
    answers(rig.near.udp, ip, 80, "refused", "hostname")


def names(client: Place, host: str, port: int, protocol: str, tries: int) -> set[str]:
    """Who answers."""
    ask = client.http if protocol == "tcp" else client.udp
    return {ask(host, port) for _ in range(tries)}


def is_with_one(client: Place, host: str, port: int, protocol: str) -> bool:
    """Whether a client has the same endpoint again and again."""
    return len(names(client, host, port, protocol, 12)) == 1


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("at", ["cluster IP", "node port"])
def test_affinity_can_be_switched(
    rig: KubeLab, family: str, at: str, protocol: str
) -> None:
    both = (Endpoint(rig.beside), Endpoint(rig.there, "n2"))
    made = rig.service("web", *both, type="NodePort", sessionAffinity="ClientIP")
    client, host, port = rig.near, made.ip(family), 80
    if at == "node port":
        client, host = rig.outside, rig.node.hosts[family]
        port = made.node_port(protocol)
    ask = client.http if protocol == "tcp" else client.udp
    wait_until(lambda: ask(host, port).startswith("pod"), TOLD_S)
    assert is_with_one(client, host, port, protocol)
    rig.change("web", sessionAffinity="None", sessionAffinityConfig=None)
    wait_until(lambda: len(names(client, host, port, protocol, TRIES)) == 2, TOLD_S)
    rig.change("web", sessionAffinity="ClientIP")
    wait_until(lambda: is_with_one(client, host, port, protocol), TOLD_S)


@pytest.mark.parametrize("at", ["cluster IP", "node port"])
def test_affinity_ends_with_its_time(rig: KubeLab, family: str, at: str) -> None:
    both = (Endpoint(rig.beside), Endpoint(rig.there, "n2"))
    made = rig.service(
        *("web", *both),
        type="NodePort",
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 1}},
    )
    client, host, port = rig.near, made.ip(family), 80
    if at == "node port":
        client, host = rig.outside, rig.node.hosts[family]
        port = made.node_port("tcp")
    wait_until(lambda: client.http(host, port).startswith("pod"), TOLD_S)
    first = client.http(host, port)

    def is_with_another() -> bool:
        time.sleep(1.2)  # longer than its time: that it is over is what is waited for
        return client.http(host, port) not in (first, "silence")

    wait_until(is_with_another, 60)


@pytest.mark.parametrize("at", ["cluster IP", "node port", "cluster IP, from the node"])
def test_datagrams_go_on_when_the_server_is_replaced(
    rig: KubeLab, family: str, at: str
) -> None:
    """The client keeps its port throughout: nothing of the old way may stick to it."""
    http, udp = {"ipv4": (9080, 9081), "ipv6": (9082, 9083)}[family]
    first = rig.lab.serve(rig.beside, http, udp)
    one = Endpoint(rig.beside, http=http, udp=udp)
    two = Endpoint(rig.there, "n2")
    made = rig.service("web", one, type="NodePort")
    host, port, place = made.ip(family), 80, rig.near
    if at == "node port":
        host, port, place = rig.node.hosts[family], made.node_port("udp"), rig.outside
    elif at != "cluster IP":
        place = rig.node
    with contextlib.closing(Client(place, host, port)) as client:
        wait_until(lambda: client.ask() == first.name, TOLD_S)
        rig.beside.http(rig.beside.hosts[family], http, "exit")  # its slice is late
        wait_until(lambda: first.code is not None, TOLD_S)
        wait_until(lambda: client.ask() in ("silence", "refused"), TOLD_S)
        rig.endpoints("web")
        wait_until(lambda: client.ask() == "refused", TOLD_S)
        rig.endpoints("web", two)
        wait_until(lambda: client.ask() == rig.there.name, TOLD_S)
        assert [client.ask() for _ in range(10)] == [rig.there.name] * 10


def test_what_the_node_answers_about_its_proxy(rig: KubeLab, family: str) -> None:
    ip = rig.service("web", Endpoint(rig.beside)).ip(family)
    answers(rig.near.http, ip, 80, rig.beside.name, "hostname")
    assert rig.get("/proxyMode") == (200, "tproxy")
    status, metrics = rig.get("/metrics")
    assert status == 200
    assert "kubeproxy_sync_proxy_rules_duration_seconds_count" in metrics
    host = rig.node.hosts["ipv4"]
    for path in ("healthz", "livez"):
        said = json.loads(rig.outside.http(host, HEALTHZ_PORT, path))
        assert said["lastUpdated"]
