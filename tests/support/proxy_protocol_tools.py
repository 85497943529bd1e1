"""What the tests of the PROXY protocol share: a proxy that trusts one peer, headers."""

from typing import Any

from tests.support.proxyhead_reference import (
    LOCAL,
    NAMED_NOBODY,
    frame,
    line,
    raw_frame,
    tlv,
)
from tests.support.relay_tools import Proxy

TRUSTED = "127.0.0.3"  # a peer in the networks
STRANGER = "127.0.0.4"  # and one outside them
NETWORKS = (f"{TRUSTED}/32",)
HEADERS = {
    "v1": line("10.1.2.3", 1234),
    "v1 v6": line("2001:db8::1", 1234),
    "v1 unknown": NAMED_NOBODY,
    "v2": frame("10.1.2.3", 1234),
    "v2 v6": frame("2001:db8::1", 1234),
    "v2 checksum": frame("10.1.2.3", 1234, checksum=True),
    "v2 extensions": frame("10.1.2.3", 1234, tlv(0xEA, bytes(2000))),
    "v2 local": raw_frame(b"", command=LOCAL, family=0),
}


def trusting(*backends: tuple[str, int], **options: Any) -> Proxy:
    """A proxy that wants a header from TRUSTED."""
    return Proxy(*backends, **{"proxy_protocol_from": NETWORKS, **options})


def is_served(proxy: Proxy, header: bytes, source: str = TRUSTED) -> bool:
    """Whether a client that says `header` first gets an echo of what it says next."""
    try:
        with proxy.connect(source) as client:
            client.sendall(header + b"x")
            return client.recv(100) == b"x"
    except OSError:
        return False
