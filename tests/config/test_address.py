"""`HOST:PORT`, and which two of them cannot both be bound."""

import pytest

from pyproxy.config import Address, is_loopback, overlap, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:6443", Address("10.0.0.1", 6443)),
        ("[::1]:6443", Address("::1", 6443)),
        ("[0:0:0:0:0:0:0:1]:6443", Address("::1", 6443)),
        ("[::ffff:10.0.0.1]:1", Address("10.0.0.1", 1)),
        ("Api.Example.com:6443", Address("api.example.com", 6443)),
        ("localhost:1", Address("localhost", 1)),
        ("kube_api-1.example.:65535", Address("kube_api-1.example.", 65535)),
    ],
)
def test_parse_returns_host_and_port(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("10.0.0.1", "has no port"),
        ("10.0.0.1:", "has no port"),
        ("", "has no port"),
        (":6443", "has no host"),
        ("10.0.0.1:https", "is not a port"),
        ("10.0.0.1:65536", "is not a port"),
        ("10.0.0.1:-1", "is not a port"),
        ("10.0.0.1:0", "port 0"),
        ("10.0.0.256:1", "not an IPv4 address"),
        ("10.0.1:1", "not an IPv4 address"),
        ("::1:6443", "in brackets"),
        ("[::g]:1", "not an IPv6 address"),
        ("[fe80::1%eth0]:1", "with a zone"),
        ("a b:1", "not a host name"),
        ("-a:1", "not a host name"),
        ("a..b:1", "not a host name"),
        ("https://a:1", r"'https://a:1' is a URL, write a:1$"),
        ("https://a", "is a URL, write HOST:PORT$"),
        ("tcp://[::1]:1/x?y", r"is a URL, write \[::1\]:1$"),
        ("a:1/readyz", "has a path, write a:1$"),
        ("a:1,b:2", "'a:1,b:2' is a list, give each by itself: a:1 and b:2$"),
        ("a:1 b:2", "is a list, give each by itself: a:1 and b:2$"),
        ("a:1;b:2,", "is a list, give each by itself: a:1 and b:2$"),
        ("https://a:1,https://b:2", "is a list, .*: https://a:1 and https://b:2$"),
        ("u:p@a:1", r"^'…@a:1' names a user, write a:1$"),
        ("https://u:p@a:1", "^'https://…@a:1' is a URL, write a:1$"),
        ("u:p@a:1,u:p@b:2", "^'…@a:1,…@b:2' is a list, .*: …@a:1 and …@b:2$"),
    ],
)
def test_parse_of_anything_else_says_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_address(text)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "0.0.0.0:1", True),
        ("[::]:1", "[::1]:1", True),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("0.0.0.0:1", "127.0.0.1:2", False),
        ("0.0.0.0:1", "[::]:1", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_overlap(one: str, other: str, both: bool) -> None:
    parsed = [parse_address(text, zero_port=True) for text in (one, other)]
    assert overlap(*parsed) is both


def test_loopback_is_what_only_this_machine_can_dial() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com")))
