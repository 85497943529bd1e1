"""Which addresses may be dialled. Source of the vectors: the facts, B12."""

import ipaddress

import pytest

from pyproxy.http.addresses import AddressRules

REFUSED = """
    127.0.0.1 127.0.0.2 169.254.169.254 169.254.1.1 224.0.0.0 239.1.2.3 0.0.0.0
    255.255.255.255 ::1 :: fe80:: fe80::1%eth0 ff01:: ff02:: 1 010.0.0.1 10.0.0.1/8
    ::ffff:127.0.0.1 ::ffff:169.254.169.254 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe
    2002:7f00:1:: 2002:a9fe:a9fe:: ::127.0.0.1 fd00:ec2::254 100.100.100.200 localhost
    2001:0:7f00:1::
""".split()
ALLOWED = """
    10.0.0.1 192.168.0.1 172.16.0.1 8.8.8.8 100.64.0.1 240.0.0.1 2600:: fd00::1
    64:ff9b::808:808 2002:808:808::
""".split()


def network(text: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(text)


@pytest.mark.parametrize("text", [*REFUSED, ""])
def test_address_of_this_machine_or_its_link_is_refused(text: str) -> None:
    assert AddressRules().accept(text, 80) == ""


@pytest.mark.parametrize("text", ALLOWED)
def test_address_that_can_be_a_pods_is_accepted_as_it_is(text: str) -> None:
    assert AddressRules().accept(text, 80) == text


def test_mapped_address_is_dialled_as_the_ipv4_that_it_is() -> None:
    assert AddressRules().accept("::ffff:10.0.0.1", 80) == "10.0.0.1"


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_port_that_is_none_is_refused(port: int) -> None:
    assert AddressRules().accept("10.0.0.1", port) == ""


def test_network_that_is_allowed_lifts_the_rules_for_itself_alone() -> None:
    rules = AddressRules(allow=(network("127.0.0.2/32"),))
    assert rules.accept("127.0.0.2", 80) == "127.0.0.2"
    assert rules.accept("127.0.0.1", 80) == ""


def test_network_that_is_denied_stays_so_whatever_allows_it() -> None:
    rules = AddressRules(allow=(network("10.0.0.0/8"),), deny=(network("10.1.0.0/16"),))
    assert rules.accept("10.0.0.1", 80) == "10.0.0.1"
    assert rules.accept("10.1.0.1", 80) == ""
    assert rules.accept("64:ff9b::10.1.0.1", 80) == ""


def test_our_own_listener_is_refused_even_where_its_network_is_allowed() -> None:
    allow = (network("127.0.0.0/8"),)
    exact = AddressRules(allow=allow, own=(("127.0.0.3", 8443),))
    assert exact.accept("127.0.0.3", 8443) == ""
    assert exact.accept("127.0.0.3", 80) == "127.0.0.3"
    every = AddressRules(allow=allow, own=(("0.0.0.0", 8443),))
    assert every.accept("127.0.0.1", 8443) == ""
    assert every.accept("10.255.255.254", 8443) == "10.255.255.254"
