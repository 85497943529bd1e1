"""Checks of the values that Python gives the core: a TableError names what is wrong."""

import resource
from functools import lru_cache
from ipaddress import IPv6Network, ip_network

from fastpath.api.errors import TableError

UNIX = "unix:"  # of a host: what follows is the path of a socket
MAX_UNIX_PATH = 107  # sockaddr_un's, less the NUL
MAX_BYTES = 1 << 40
MAX_FLOWS = 1 << 20
MAPPED = IPv6Network("::ffff:0:0/96")  # IPv4 addresses as IPv6 ones


def check(fact: bool, complaint: str) -> None:
    if not fact:
        raise TableError(complaint)


def check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        raise TableError(f"{what} {value!r} is not a string")


def check_count(what: str, value: object, least: int, most: int) -> None:
    # True is an int in Python, but a mistake here.
    if isinstance(value, bool) or not isinstance(value, int):
        raise TableError(f"{what} {value!r} is not a whole number")
    if not least <= value <= most:
        raise TableError(f"{what} {value!r} is not in {least}-{most}")


def check_seconds(what: str, value: object, most: int, *, zero: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TableError(f"{what} {value!r} is not a number of seconds")
    if not 0 <= value <= most:  # NaN is in no range
        raise TableError(f"{what} {value!r} is not in 0-{most} s")
    if value == 0 and not zero:
        raise TableError(f"{what} must be positive")


def check_bounds(
    parked: int, questions: int, parked_bytes: int, tls_buffer_bytes: int
) -> None:
    """Refuse bounds of the engine's with a ValueError."""
    for what, value, most in (
        ("parked_most", parked, questions),
        ("parked_bytes", parked_bytes, MAX_BYTES),
        ("tls_buffer_bytes", tls_buffer_bytes, MAX_BYTES),
    ):
        if not 0 < value <= most:
            raise ValueError(f"{what} is not in 1-{most}")


def check_word(what: str, value: object, words: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in words:
        raise TableError(f"{what} {value!r} is none of {', '.join(words)}")


def check_unix_path(what: str, host: str) -> None:
    """Refuse the host `unix:PATH` if no socket can have that path."""
    if host.startswith(UNIX):
        path = host[len(UNIX) :].encode()
        check(0 < len(path) <= MAX_UNIX_PATH, f"{what}: path of {len(path)} bytes")
        check(b"\0" not in path, f"{what}: path with a NUL")


def split_network(text: str, what: str = "network") -> tuple[str, int]:
    """First address of a network such as `10.0.0.0/8`, and the bits of its prefix.

    One of IPv4 addresses in IPv6 is one of IPv4: that is how the core sees clients.

    Raises:
        TableError: it is none.
    """
    check_text(what, text)
    try:
        return _split(text)
    except ValueError as error:
        raise TableError(f"{what} {text!r} {error}") from error


@lru_cache(4096)  # tens of thousands of vips have the same few
def _split(text: str) -> tuple[str, int]:
    """Raise ValueError."""
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"is not a network: {error}") from error
    if "%" in text:
        raise ValueError("has a zone")
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        return str(network.network_address.ipv4_mapped), network.prefixlen - 96
    return str(network.network_address), network.prefixlen


def flows_each(most: int | None, workers: int) -> int:
    """Flows of UDP that each of `workers` may have; None = half of the descriptors.

    Raises:
        ValueError: `most` is out of range.
    """
    if most is None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        unlimited = files == resource.RLIM_INFINITY
        most = MAX_FLOWS if unlimited else min(files // 2, MAX_FLOWS)
    elif not workers <= most <= MAX_FLOWS:
        raise ValueError(f"flows_most: {most} is not in {workers}-{MAX_FLOWS}")
    return max(1, most // workers)
