"""`HOST:PORT` as people write it, IPv6 in brackets."""

import ipaddress
import re
from typing import NamedTuple

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class Address(NamedTuple):
    """A host, which may still be a name, and a port."""

    host: str
    port: int

    @property
    def is_name(self) -> bool:
        """Whether the host must be resolved first."""
        return not _is_literal(self.host)


def parse_address(text: str, *, zero_port: bool = False) -> Address:
    """Read `HOST:PORT`. Raise ValueError saying which half is wrong.

    Literals come back in their canonical spelling, so that equal ones compare equal.
    """
    if hint := _other_form(text):
        raise ValueError(f"{_without_user(text)!r} {hint}")
    host, colon, port = text.rpartition(":")
    if not colon or not port:
        raise ValueError(f"{text!r} has no port, write HOST:PORT")
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError(f"{text!r}: {port!r} is not a port")
    if int(port) == 0 and not zero_port:
        raise ValueError(f"{text!r}: port 0 is not possible here")
    return Address(_parse_host(host, text), int(port))


def _other_form(text: str) -> str:
    """Say what a text is that people write where an address is wanted, if so."""
    if parts := _several(text):
        shown = " and ".join(map(_without_user, parts))
        return f"is a list, give each by itself: {shown}"
    scheme, is_url, rest = text.partition("://")
    if is_url and scheme.isalnum():
        authority = re.split(r"[/?#]", rest)[0].rpartition("@")[2]
        has_port = re.search(r":\d+$", authority, re.ASCII)
        return f"is a URL, write {authority if has_port else 'HOST:PORT'}"
    if "@" in text:
        return f"names a user, write {text.rpartition('@')[2] or 'HOST:PORT'}"
    if "/" in text:
        return f"has a path, write {text.partition('/')[0] or 'HOST:PORT'}"
    return ""


def _without_user(text: str) -> str:
    """Return what can be shown: a password may stand before the host."""
    return re.sub(r"(?<![^/,;\s])[^/,;\s]*@", "…@", text)


def _several(text: str) -> list[str]:
    is_list = re.search(r"[,;\s]", text.strip())
    parts = [part for part in re.split(r"[,;\s]+", text) if part]
    return parts if is_list and all(":" in part for part in parts) else []


def _parse_host(host: str, text: str) -> str:
    if not host:
        every = f"0.0.0.0:{text[1:]} or [::]:{text[1:]}"
        raise ValueError(f"{text!r} has no host, write {every} for every address")
    if host.startswith("[") and host.endswith("]"):
        try:
            address = ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise ValueError(f"{text!r}: {host} is not an IPv6 address") from None
        if address.scope_id is not None:
            raise ValueError(f"{text!r}: addresses with a zone are not supported")
        # The kernel keeps the two families apart, and so does `overlap`.
        return str(address.ipv4_mapped or address)
    if ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, [::1]:6443")
    if re.fullmatch(r"[0-9.]+", host, re.ASCII):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(f"{text!r}: {host} is not an IPv4 address") from None
    name = host.removesuffix(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(part) for part in name.split(".")):
        raise ValueError(f"{text!r}: {host!r} is not a host name")
    return host.lower()


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def parse_network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read `10.0.0.0/8`, or one address. Raise ValueError saying what is wrong."""
    if "," in text:
        raise ValueError(f"{text!r} is a list, give each network by itself")
    host, slash, bits = text.partition("/")
    try:
        if slash and not re.fullmatch(r"\d{1,3}", bits, re.ASCII):
            raise ValueError  # a mask, which ipaddress would take, too
        address = ipaddress.ip_address(host)
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is not a network such as 10.0.0.0/8") from None
    if "%" in text:
        raise ValueError(f"{text!r}: addresses with a zone are not supported")
    if address != network.network_address:
        raise ValueError(f"{text!r}: write {network}, or {address} alone")
    return network


def is_loopback(host: str) -> bool:
    """Whether only this machine can dial the host (a literal, or `localhost`)."""
    if host == "localhost":
        return True
    return _is_literal(host) and ipaddress.ip_address(host).is_loopback


def overlap(one: Address, other: Address) -> bool:
    """Whether the two cannot both be bound: same port, and one host covers the other.

    Names never overlap here; compare after resolving.
    """
    if one.port != other.port or one.port == 0 or one.is_name or other.is_name:
        return False
    first, second = ipaddress.ip_address(one.host), ipaddress.ip_address(other.host)
    if first.version != second.version:
        return False
    return first == second or first.is_unspecified or second.is_unspecified
