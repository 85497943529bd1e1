"""Peers that vanished without a FIN, noticed by the kernel.

A watch sends nothing, so a peer that lost its power or its route is found by keep-alive
probes only. The kernel's default begins after two hours; client-go pings after 30 s.
"""

import socket
from typing import Any

IDLE_S, PROBE_S, PROBES = 30, 10, 3
UNANSWERED_MS = 60_000  # what was sent and not acknowledged


def keep_alive(found: Any) -> None:
    """Set the options; takes a socket or what an event loop shows of one."""
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_S)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)


def kept_alive(address: Any) -> socket.socket:
    """Make a socket for an address as getaddrinfo returns it."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    keep_alive(made)
    return made
