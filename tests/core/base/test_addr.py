"""Addresses: text, sockaddr and back. The oracles are ipaddress and the sockets."""

import ipaddress
import socket
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastpath.base.addr import Address

SIZE = 20  # bytes of an addr_t: one in each relay, two in each backend
ports = st.integers(0, 65535)


def sockaddr_in(ip: str, port: int) -> bytes:
    """What the kernel writes for an IPv4 peer."""
    packed = ipaddress.IPv4Address(ip).packed
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, packed)


def sockaddr_in6(ip: str, port: int, flow: int = 0, scope: int = 0) -> bytes:
    """What the kernel writes for an IPv6 peer."""
    packed = ipaddress.IPv6Address(ip).packed
    return (
        struct.pack("=H", socket.AF_INET6)
        + struct.pack("!HI16s", port, flow, packed)
        + struct.pack("=I", scope)
    )


@given(st.ip_addresses(v=4), ports)
@example(ipaddress.IPv4Address("127.255.0.2"), 80)
@example(ipaddress.IPv4Address("128.0.0.1"), 80)
@example(ipaddress.IPv4Address("0.0.0.0"), 0)
def test_ipv4_survives_text_and_sockaddr(ip: ipaddress.IPv4Address, port: int) -> None:
    address = Address(str(ip), port)
    assert (str(address), address.port) == (str(ip), port)
    assert address.family == socket.AF_INET
    assert address.loopback == ip.is_loopback
    assert address.sockaddr() == sockaddr_in(str(ip), port)
    again = Address.from_sockaddr(address.sockaddr())
    assert bytes(again) == bytes(address)


@given(st.ip_addresses(v=6), ports)
@example(ipaddress.IPv6Address("::1"), 1)
@example(ipaddress.IPv6Address("::"), 0)
@example(ipaddress.IPv6Address("::7f00:1"), 1)
@example(ipaddress.IPv6Address("::fffe:7f00:1"), 1)
def test_ipv6_survives_text_and_sockaddr(ip: ipaddress.IPv6Address, port: int) -> None:
    if ip.ipv4_mapped is not None:
        return  # see below
    address = Address(str(ip), port)
    assert (ipaddress.ip_address(str(address)), address.port) == (ip, port)
    assert address.family == socket.AF_INET6
    assert address.loopback == ip.is_loopback
    assert address.sockaddr() == sockaddr_in6(str(ip), port)
    again = Address.from_sockaddr(address.sockaddr())
    assert bytes(again) == bytes(address)
    assert bytes(Address(ip.exploded, port)) == bytes(address), "spelling counts"


@given(st.ip_addresses(v=4), ports)
def test_mapped_ipv4_is_ipv4_from_the_kernel_and_from_people(
    ip: ipaddress.IPv4Address, port: int
) -> None:
    plain = Address(str(ip), port)
    mapped = f"::ffff:{ip}"
    seen = Address.from_sockaddr(sockaddr_in6(mapped, port, flow=7, scope=3))
    assert bytes(seen) == bytes(plain)
    assert bytes(Address(mapped, port)) == bytes(plain)


def test_compares_bytewise_whatever_the_sockaddr_had_besides() -> None:
    one = Address.from_sockaddr(sockaddr_in6("fe80::1", 80, flow=1, scope=2))
    assert bytes(one) == bytes(Address("fe80::1", 80))
    noisy = sockaddr_in("10.0.0.1", 80)[:8] + b"\xff" * 8
    assert bytes(Address.from_sockaddr(noisy)) == bytes(Address("10.0.0.1", 80))
    assert len(bytes(one)) == SIZE


def test_families_with_equal_bytes_are_not_equal() -> None:
    assert bytes(Address("1.2.3.4")) != bytes(Address("102:304::"))
    assert bytes(Address("0.0.0.0")) != bytes(Address("::"))
    assert bytes(Address("10.0.0.1", 80)) != bytes(Address("10.0.0.1", 81))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "localhost",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.4:80",
        "0x7f.0.0.1",
        "127.1",
        "127.0.0.01",
        "2130706433",
        "::1%lo",
        "[::1]",
        ":::1",
        "1::2::3",
        "12345::",
        "::ffff:1.2.3",
        "1:2:3:4:5:6:7:8:9",
        "\u0661.1.1.1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Address(text)


@given(st.text(alphabet="0123456789abcdef.:", max_size=20))
def test_what_passes_for_an_address_is_what_ipaddress_takes(text: str) -> None:
    try:
        expected = ipaddress.ip_address(text)
    except ValueError:
        with pytest.raises(ValueError, match="is no address"):
            Address(text)
        return
    mapped = getattr(expected, "ipv4_mapped", None)
    assert ipaddress.ip_address(str(Address(text))) == (mapped or expected)


def test_address_of_no_family_is_shown_as_such() -> None:
    unix = struct.pack("=H", socket.AF_UNIX) + b"/tmp/x"
    nobody = Address.from_sockaddr(unix)
    assert (str(nobody), nobody.port, nobody.family) == ("?", 0, 0)


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 128), st.booleans())
def test_address_is_within_a_network_as_ipaddress_has_it(
    one: ipaddress.IPv4Address | ipaddress.IPv6Address,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
    bits: int,
    near: bool,
) -> None:
    if near:  # else hardly any two are neighbours
        flipped = 1 << (bits % one.max_prefixlen)
        other = type(one)(int(one) ^ flipped)
    bits = min(bits, other.max_prefixlen)
    network = ipaddress.ip_network((other, bits), strict=False)
    if getattr(other, "ipv4_mapped", None):
        return  # a network of IPv4 addresses, which split_network has made one
    seen = getattr(one, "ipv4_mapped", None) or one
    expected = seen.version == network.version and seen in network
    assert Address(str(one)).within(str(network.network_address), bits) == expected
