"""Does a Host header name this machine? One strict answer.

A page of a stranger may point a name of its own at 127.0.0.1 and then read us; the
browser still sends that name. So only what no stranger can own is taken: `localhost`
and literals of the loopback, in the grammar of RFC 9110 7.2 and nothing near it.
"""

import ipaddress
import re

_HOST = re.compile(
    r"(?:(?P<name>localhost\.?)|(?P<v4>[0-9.]{7,15})|\[(?P<v6>[0-9a-f:.]{2,45})\])"
    r"(?::[0-9]{1,5})?",
    re.ASCII | re.IGNORECASE,
)


def is_local_host(header: str) -> bool:
    """Whether a Host header can only mean the machine on which its sender runs."""
    match = _HOST.fullmatch(header)
    if match is None:
        return False
    if match["name"]:
        return True
    try:
        if match["v4"]:
            return ipaddress.IPv4Address(match["v4"]).is_loopback
        address = ipaddress.IPv6Address(match["v6"])
    except ValueError:
        return False
    return (address.ipv4_mapped or address).is_loopback
