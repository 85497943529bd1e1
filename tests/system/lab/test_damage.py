"""What others do to our rules, and what is left of them at the end."""

import pytest

from pyproxy.capture import Fronts, Layout, Tproxy
from pyproxy.capture.layout import UPWARDS
from pyproxy.model import Front
from tests.support.lab import SILENCE_S, Lab, Place, everything_of
from tests.support.lab_proxy import PORT, TRACKING, Proxy, here

HOST = "10.96.0.1"
FRONT = Front("tcp", HOST, 80, "serve", "serve")
NAME = "pyproxy"
RANGES = ("192.168.50.0/24", "10.244.0.0/16")


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


def test_nft_reads_what_it_shows_of_our_tables(lab: Lab, proxy: Proxy) -> None:
    # As those do who save their rules, ours among them, and load them at boot.
    node = lab.nodes[0]
    sources = ("10.244.0.0/16", "192.168.50.0/24")
    proxy.put(FRONT, Front("udp", HOST, 53, "serve", "drop", sources))
    proxy.put(Front("tcp", "fd96::1", 80, "reject", "serve", ("fd44::/16",)))
    proxy.capture.update(Fronts(cluster_ips=[HOST], blocks=("10.96.0.0/16",)))
    before = node.run("nft", "list", "ruleset")
    node.run("nft", "flush", "ruleset")
    node.ns.feed(before, "nft", "-f", "-")
    assert sorted(node.run("nft", "list", "ruleset")) == sorted(before)
    assert lab.nodes[0].pods[0].http(HOST, 81) == "refused"
    with node.entered():
        proxy.capture.verify()  # to the byte they are not what we wrote
        assert proxy.capture.verify() == []
    assert sorted(node.run("nft", "list", "ruleset")) == sorted(before)


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


def test_change_of_the_node_after_damage_repairs(lab: Lab, proxy: Proxy) -> None:
    node = lab.nodes[0]
    proxy.put(FRONT, to=[node.pods[1]])
    node.run("nft", "flush", "ruleset")
    with node.entered():
        proxy.capture.open(here(["192.168.50.0/24"]))
        assert proxy.capture.verify() == []
    assert lab.outside[0].http(HOST, 80) == node.pods[1].name


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
