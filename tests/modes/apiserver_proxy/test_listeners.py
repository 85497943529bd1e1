"""Where apiserver-proxy listens."""

import errno

import pytest

from pyproxy.errors import start_error
from pyproxy.modes.apiserver_proxy import ApiserverProxy
from pyproxy.modes.apiserver_proxy.listeners import hosts_of, is_without_family


@pytest.mark.parametrize(
    ("address", "given", "hosts"),
    [
        ("0.0.0.0", [], ("0.0.0.0", "::")),
        ("::", [], ("::", "0.0.0.0")),
        ("127.0.0.1", [], ("127.0.0.1",)),
        ("127.0.0.1", [("::", 8443)], ("127.0.0.1",)),
        ("0.0.0.0", [("0.0.0.0", 8443)], ("0.0.0.0",)),
        ("0.0.0.0", [("::", 8443)], ("::",)),
        ("0.0.0.0", [("::", 8443), ("0.0.0.0", 8443)], ("0.0.0.0", "::")),
        ("0.0.0.0", [("::", 9)], ("0.0.0.0", "::")),
    ],
)
def test_every_address_is_of_both_families_unless_sockets_say_more(
    address: str, given: list[tuple[str, int]], hosts: tuple[str, ...]
) -> None:
    config = ApiserverProxy(bind_address=address, secure_port=8443)
    assert hosts_of(config, given) == hosts


@pytest.mark.parametrize(
    ("number", "is_without"),
    [
        (errno.EAFNOSUPPORT, True),
        (errno.EADDRNOTAVAIL, True),
        (errno.EADDRINUSE, False),
    ],
)
def test_family_that_is_not_there_is_told_from_an_address_that_is_taken(
    number: int, is_without: bool
) -> None:
    error = start_error(OSError(number, "bind"))
    error.__cause__ = OSError(number, "bind")  # as the dataplane raises it
    assert is_without_family(error) == is_without
