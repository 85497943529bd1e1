"""Which addresses a proxy may dial for others: `AddressRules`, asked before each dial.

Users choose what is dialled, by way of objects that they may write. So an address of
this machine, of its link or of a cloud's metadata is never one of a Pod or a Node,
however it is spelled, unless somebody has allowed it.

Source: kubernetes, pkg/proxy/util.IsProxyableIP, and stricter: forms of IPv6 that hold
an IPv4 address count as that address.
"""

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where clouds answer machines about themselves, beside 169.254.0.0/16.
METADATA = tuple(
    ipaddress.ip_address(text)
    for text in ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Networks to allow and to deny beside what is refused anyway; denying wins."""

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    own: tuple[tuple[str, int], ...] = ()  # where we listen ourselves

    def accept(self, text: str, port: int) -> str:
        """Return the address to dial; "" = it must not be dialled."""
        address = parse(text)
        if address is None or not 1 <= port <= 65535 or self._is_ours(address, port):
            return ""
        forms = [address, *_hidden(address)]
        if any(_within(form, self.deny) for form in forms):
            return ""
        if not _within(address, self.allow) and not all(map(is_proxyable, forms)):
            return ""
        return str(address)

    def _is_ours(self, address: Address, port: int) -> bool:
        for host, ours in self.own:
            if port != ours:
                continue
            listening = ipaddress.ip_address(host)
            if listening == address:
                return True
            if listening.is_unspecified and _is_local(address):
                return True
        return False


def parse(text: str) -> Address | None:
    """Read an address, which must have no zone; one of IPv4 in IPv6 is the former."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        return address.ipv4_mapped or address
    return address


def is_proxyable(address: Address) -> bool:
    """Whether it can be a Pod's or a Node's. Private networks can."""
    return not (
        address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address == _BROADCAST
        or address in METADATA
    )


def _hidden(address: Address) -> Iterator[ipaddress.IPv4Address]:
    """Yield the IPv4 addresses that gateways would make of one of IPv6."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64 or address in _COMPATIBLE:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _is_local(address: Address) -> bool:
    """Whether this machine has an address: only then can a socket be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
