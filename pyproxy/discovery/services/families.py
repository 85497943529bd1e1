"""IP addresses as text: of which family they are, and how we spell them."""

import ipaddress
from collections.abc import Iterable
from typing import Literal, TypeAlias

Family: TypeAlias = Literal["IPv4", "IPv6"]
FAMILIES: tuple[Family, Family] = ("IPv4", "IPv6")

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def family_of(address: str) -> Family:
    """Return the family of an address that is one."""
    return "IPv6" if ":" in address else "IPv4"


def network_of(text: str) -> Network | None:
    """Return a network, blanks around it and bits below its mask set aside."""
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None


def is_in(address: str, networks: Iterable[Network]) -> bool:
    """Whether one of the networks has the address."""
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in networks)


def is_special(address: str) -> bool:
    """Whether an address can be no Service's: it means this host, or one link."""
    parsed = ipaddress.ip_address(address)
    return (
        parsed.is_unspecified
        or parsed.is_loopback
        or parsed.is_multicast
        or parsed.is_link_local
    )


def single(address: str) -> str:
    """Return the network that is one address."""
    return f"{address}/{128 if ':' in address else 32}"
