"""What stands in the way of a capture, and is said with what would help."""

import shutil
import subprocess
import sys

import pytest

from pyproxy.capture import Fronts, Layout, Tproxy
from pyproxy.model import Front
from tests.support.lab import Lab, Node, Place, everything_of
from tests.support.lab_proxy import PORT, Proxy, here

FRONT = Front("tcp", "10.96.0.1", 80, "serve", "serve")
NEAR = ("10.244.0.0/16",)
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


@pytest.mark.parametrize("tool", ["iptables", "ip6tables"])
def test_another_kube_proxy_of_old_tables_is_named(
    lab: Lab, proxy: Proxy, tool: str
) -> None:
    command = f"{tool}-legacy"
    if shutil.which(command) is None:
        pytest.skip("old tables are made with iptables-legacy")
    node = lab.nodes[0]
    with node.entered():
        node.run(command, "-t", "nat", "-N", "KUBE-SERVICES")
        said = proxy.capture.obstacles()
        node.run(command, "-t", "nat", "-X", "KUBE-SERVICES")
        assert len(said) == 1
        assert f"chain KUBE-SERVICES of {command}" in said[0]
        assert proxy.capture.obstacles() == []


def test_machine_without_ipv6_captures_ipv4() -> None:
    place = Place("without", "192.0.2.1", "2001:db8:2::1")
    try:
        place.run("sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=1")
        with place.entered():
            capture = Tproxy(Layout(PORT, PORT))
            capture.open(here(NEAR))
            capture.update(
                Fronts([FRONT, Front("tcp", "fd96::1", 80, "serve", "serve")])
            )
            assert capture.verify() == []
            assert ["no IPv6" in line for line in capture.obstacles()] == [True]
            capture.close(leave=False)
            assert "proto 112" not in "\n".join(everything_of(place))
    finally:
        place.ns.close()


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
