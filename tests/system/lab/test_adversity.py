"""What others do to our rules, and what is left of them at the end."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fastpath import Delta, Engine, Listener
from pyproxy.capture import LISTENERS, Fronts, Layout, Tproxy
from pyproxy.capture.layout import UPWARDS
from pyproxy.model import Front
from tests.support.lab import HTTP, SILENCE_S, Lab, Node, Place, everything_of
from tests.support.lab_proxy import PORT, Proxy, here, vip
from tests.support.waiting import wait_until

HOST = "10.96.0.1"
FRONT = Front("tcp", HOST, 80, "serve", "serve")
NAME = "pyproxy"
RANGES = ("192.168.50.0/24", "10.244.0.0/16")
TRACKING = """
    add table inet foreign;
    add chain inet foreign c { type filter hook prerouting priority 0; };
    add rule inet foreign c ct state new;
    add chain inet foreign o { type filter hook output priority 0; };
    add rule inet foreign o ct state new
"""


def test_nothing_is_left_behind(lab: Lab) -> None:
    node = lab.nodes[0]
    before = list(everything_of(node))

    with Proxy(node, RANGES) as proxy:
        proxy.put(FRONT, to=[node.pods[1]])
        assert lab.outside[0].http(HOST, 80) == node.pods[1].name
        assert list(everything_of(node)) != before
    assert list(everything_of(node)) == before


def test_cleanup_finds_what_a_predecessor_left(lab: Lab) -> None:
    # It was killed, and had other numbers.
    node = lab.nodes[0]
    before = list(everything_of(node))
    with node.entered():
        old = Tproxy(Layout(PORT, PORT, mark=0x40, table=99, priority=77))
        old.open(here(RANGES))
        old.update(Fronts([FRONT]))
        old.close(leave=True)
        assert list(everything_of(node)) != before
        assert len(Tproxy(Layout(PORT, PORT)).cleanup()) == 2
        assert list(everything_of(node)) == before
        assert Tproxy(Layout(PORT, PORT)).cleanup() == []


def test_successor_serves_what_its_predecessor_did(lab: Lab, proxy: Proxy) -> None:
    # Until it says otherwise: it knows its Services only after a while.
    node, client = lab.nodes[0], lab.outside[0]
    limited = Front("tcp", "10.96.0.2", 80, "serve", "drop", ("10.244.0.0/17",))
    fronts = [FRONT, limited, Front("tcp", "fd96::1", 80, "reject", "serve")]
    proxy.put(*fronts, to=[node.pods[1]])
    proxy.capture.update(Fronts(cluster_ips=[HOST], blocks=("10.96.0.0/16",)))
    with node.entered():
        before = sorted(everything_of(node))
        proxy.capture.close(leave=True)
        successor = Tproxy(proxy.layout)
        successor.open(here(proxy.near))
        assert client.http(HOST, 80) == node.pods[1].name
        successor.update(Fronts([limited], blocks=("10.96.0.0/16",)))
        assert client.http(HOST, 80) == node.pods[1].name
        assert sorted(everything_of(node)) == before
        assert successor.verify() == []
        assert client.http(HOST, 80, wait_s=SILENCE_S) == "silence"
        assert node.pods[0].http(limited.host, 80) == node.pods[1].name
        successor.close(leave=False)


DAMAGES: dict[str, tuple[str, ...]] = {
    "all tables": ("nft", "flush", "ruleset"),
    "our table": ("nft", "delete", "table", "inet", NAME),
    "bridge table": ("nft", "delete", "table", "bridge", NAME),
    "a chain's rules": ("nft", "flush", "chain", "inet", NAME, "serve"),
    "a rule more": ("nft", "insert rule", "inet", NAME, "prerouting", "accept"),
    "an element less": (
        *("nft", "delete", "element", "inet", NAME, "fronts4"),
        f"{{ tcp . {HOST} . 80 }}",
    ),
    "an element more": (
        *("nft", "add", "element", "inet", NAME, "fronts4"),
        "{ tcp . 10.96.0.9 . 80 : 0x2000 }",
    ),
    "all elements": ("nft", "flush", "map", "inet", NAME, "fronts4"),
    "near networks": ("nft", "flush", "set", "inet", NAME, "near4"),
    "known bridges": ("nft", "flush", "map", "inet", NAME, "bridges"),
    "rule of routes": ("ip", "rule", "del", "priority", "100"),
    "route": ("ip", "route", "flush", "table", "28793"),
    "entry of bridge": ("bridge", "fdb", "del", UPWARDS.hex(":"), "dev", "cni0"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_seen_and_repaired(lab: Lab, proxy: Proxy, what: str) -> None:
    node, client = lab.nodes[0], lab.outside[0]
    proxy.put(FRONT, to=[node.pods[1]])
    with node.entered():
        assert proxy.capture.verify() == []
        before = sorted(everything_of(node))
        node.run(*" ".join(DAMAGES[what][:2]).split(), *DAMAGES[what][2:])
        assert sorted(everything_of(node)) != before
        said = proxy.capture.verify()
        assert len(said) == 1, said
        assert sorted(everything_of(node)) == before
        assert proxy.capture.verify() == []
    assert client.http(HOST, 80) == node.pods[1].name


def test_rules_of_others_are_no_damage(lab: Lab, proxy: Proxy) -> None:
    proxy.put(FRONT, Front("udp", HOST, 53, "serve", "drop", RANGES))
    with lab.nodes[0].entered():
        lab.nodes[0].run("nft", TRACKING)
        assert proxy.capture.verify() == []
        lab.nodes[0].run("nft", "delete table inet foreign")
        assert proxy.capture.verify() == []


def test_update_after_damage_repairs(lab: Lab, proxy: Proxy) -> None:
    node = lab.nodes[0]
    proxy.put(FRONT, to=[node.pods[1]])
    node.run("nft", "flush", "ruleset")
    with node.entered():
        proxy.put(Front("tcp", HOST, 81, "reject", "reject"))
    assert lab.outside[0].http(HOST, 80) == node.pods[1].name
    assert lab.outside[0].http(HOST, 81) == "refused"


def test_no_entry_of_conntrack_arises(lab: Lab, proxy: Proxy) -> None:
    node, client = lab.nodes[0], lab.outside[0]
    datagrams = Front("udp", HOST, 53, "serve", "serve")
    rejected = Front("tcp", HOST, 0, "reject", "reject")
    fronts = [FRONT, datagrams, rejected]
    proxy.put(*fronts, to=[lab.nodes[1].pods[0]])
    node.run("nft", TRACKING)
    try:
        for place in (client, node, node.pods[0]):
            assert place.http(HOST, 80) == lab.nodes[1].pods[0].name
            assert "10.96" in place.udp(HOST, 53)
            assert place.http(HOST, 81) == "refused"
        found = node.run("cat", "/proc/net/nf_conntrack")
        assert f"dport={HTTP}" in found, "connections of our own are tracked"
        assert HOST not in found
    finally:
        node.run("nft", "delete table inet foreign")


def test_connections_outlive_their_front(lab: Lab, proxy: Proxy) -> None:
    node = lab.nodes[0]
    proxy.put(FRONT, to=[node.pods[1]])
    with contextlib.ExitStack() as stack:
        live = []
        for place in (lab.outside[0], node.pods[0], node):
            with place.entered():
                live.append(stack.enter_context(socket.create_connection((HOST, 80))))
        proxy.put(Front("tcp", HOST, 80, "reject", "drop"))
        for client in live:
            assert name_by(client) == node.pods[1].name
        # Packets of the node's own processes are not ours any more without a front.
        proxy.remove(FRONT.key)
        for client in live[:2]:
            assert name_by(client) == node.pods[1].name


def name_by(client: socket.socket) -> str:
    """Ask for the name of the pod over a connection that stays."""
    client.settimeout(5)
    client.sendall(b"GET /hostname HTTP/1.1\r\n\r\n")
    return client.recv(1000).partition(b"\r\n\r\n")[2].decode()


@contextlib.contextmanager
def clients(ask: Callable[[], str], wanted: str) -> Iterator[list[str]]:
    """Ask again and again in a thread; yields how often it went well."""
    stop = threading.Event()
    good: list[str] = []
    bad: list[str] = []

    def run() -> None:
        while not stop.is_set():
            said = ask()
            (good if said == wanted else bad).append(said)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield good
    finally:
        stop.set()
        thread.join()
    assert bad == []


def test_no_client_meets_half_a_change(lab: Lab, proxy: Proxy) -> None:
    # A front changes its class, its ranges and its neighbours; each state serves.
    node, client = lab.nodes[0], lab.outside[0]
    target = node.pods[1]
    whole = [Front("tcp", HOST, 0, "reject", "drop")]
    proxy.put(FRONT, to=[target])
    states = [
        [FRONT],
        [Front("tcp", HOST, 80, "drop", "serve")],
        [Front("tcp", HOST, 80, "serve", "serve", RANGES), *whole],
        [Front("tcp", HOST, 80, "reject", "serve", ("0.0.0.0/0",))],
    ]
    with clients(lambda: client.http(HOST, 80), target.name) as good:
        for state in states * 50:
            gone = [front.key for front in whole if front not in state]
            proxy.capture.update(Fronts(state, gone))
            time.sleep(0.002)
        wait_until(lambda: len(good) > 50)


def test_no_client_meets_a_successor_half_way(lab: Lab, proxy: Proxy) -> None:
    # A new process replaces the tables of the old one while clients come.
    node, client = lab.nodes[0], lab.outside[0]
    proxy.put(FRONT, to=[node.pods[1]])
    with clients(lambda: client.http(HOST, 80), node.pods[1].name) as good:
        for _ in range(20):
            with node.entered():
                successor = Tproxy(proxy.layout)
                successor.open(here(proxy.near))
                successor.update(Fronts([FRONT]))
                successor.close(leave=True)
        wait_until(lambda: len(good) > 20)
    with node.entered():
        assert proxy.capture.verify() == []


def test_without_a_listener_clients_wait_for_one(lab: Lab, proxy: Proxy) -> None:
    # A gap of a restart: a SYN is sent again after a second; a client that is connected
    # is told that its connection is gone.
    node, client = lab.nodes[0], lab.outside[0]
    proxy.put(FRONT, to=[node.pods[1]])
    with client.entered(), socket.create_connection((HOST, 80)) as old:
        old.settimeout(5)
        proxy.engine.close()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    said: list[str] = []
    waiting = threading.Thread(target=lambda: said.append(client.http(HOST, 80)))
    waiting.start()
    wait_until(lambda: "SYN-SENT" in client.run("ss", "-tn"))
    with node.entered(), Engine(workers=2) as successor:
        listeners = [Listener(host, PORT) for host in LISTENERS]
        vips = [vip(FRONT, [node.pods[1]])]
        successor.update(Delta(listeners=listeners, vips=vips), wait_s=5)
        waiting.join()
    assert said == [node.pods[1].name]


def test_bridge_that_comes_later_is_known(lab: Lab) -> None:
    # Hooks of br_netfilter stand before ours then, until all is installed anew.
    place = Place("later", "192.0.2.1", "2001:db8:2::1")
    try:
        with place.entered():
            capture = Tproxy(Layout(PORT, PORT))
            capture.open(here(RANGES))
            assert "bridge" not in place.run("nft", "list", "tables")
            place.link("link add br0 type bridge", "link set br0 up")
            assert len(capture.verify()) == 2
            assert capture.verify() == []
            assert "bridge" in place.run("nft", "list", "tables")
            assert UPWARDS.hex(":") in place.run("bridge", "fdb")
            place.link("link del br0")
            assert capture.verify() == ["bridges have changed"]
            capture.close(leave=False)
    finally:
        place.ns.close()


WITHOUT_RIGHTS = """
import os
from pyproxy.capture import Layout, Tproxy
from pyproxy.errors import StartError
from tests.support.lab_proxy import here
os.setuid(65534)
try:
    Tproxy(Layout(1, 1)).open(here([]))
except StartError as error:
    print(error)
"""


def test_without_rights_one_message_says_what_helps() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RIGHTS],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    assert "Operation not permitted" in done.stdout
    assert "CAP_NET_ADMIN" in done.stdout


def prepare_rivals(node: Node) -> None:
    """Make what two kinds of kube-proxy leave."""
    node.run("nft", "add table ip kube-proxy; add table ip6 kube-proxy")
    node.run("nft", "add table ip nat; add chain ip nat KUBE-SERVICES")
    node.run("nft", "add chain ip nat KUBE-KUBELET-CANARY")


def test_another_kube_proxy_is_named(lab: Lab, proxy: Proxy) -> None:
    node = lab.nodes[0]
    with node.entered():
        assert proxy.capture.obstacles() == []
        prepare_rivals(node)
        try:
            said = proxy.capture.obstacles()
        finally:
            node.run("nft", "delete table ip kube-proxy; delete table ip6 kube-proxy")
            node.run("nft", "delete table ip nat")
    assert len(said) == 3
    assert "`nft delete table ip6 kube-proxy`" in said[1]
    assert "chain KUBE-SERVICES of ip nat" in said[2]
    assert all("kube-proxy --cleanup" in line for line in said)


def test_settings_in_the_way_are_named(lab: Lab, proxy: Proxy) -> None:
    node = lab.nodes[0]
    settings = {
        "net.bridge.bridge-nf-call-iptables": ("0", "1"),
        "net.ipv4.conf.all.src_valid_mark": ("1", "0"),
    }
    with node.entered():
        for name, (wrong, right) in settings.items():
            node.run("sysctl", "-qw", f"{name}={wrong}")
            said = proxy.capture.obstacles()
            node.run("sysctl", "-qw", f"{name}={right}")
            assert len(said) == 1
            assert f"sysctl -w {name}={right}" in said[0]
            assert proxy.capture.obstacles() == []
