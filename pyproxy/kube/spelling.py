"""IP addresses as text, in one spelling each: that of inet_ntop, as in the core."""

import socket


def canonical(address: str) -> str:
    """Return an address in its spelling; "" = it is none."""
    try:
        if ":" not in address:
            socket.inet_pton(socket.AF_INET, address)
            return address
        raw = socket.inet_pton(socket.AF_INET6, address)
        return socket.inet_ntop(socket.AF_INET6, raw)
    except (OSError, ValueError):
        return ""
