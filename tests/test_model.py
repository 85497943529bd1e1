"""Neutral words, and how a written list of servers becomes them."""

from typing import Literal

import pytest

from pyproxy.config import Check, Listener, Pool, Server, Timeouts
from pyproxy.discovery.static import build_pools, build_vips, names_in
from pyproxy.model import Backend, Key, format_address

CHECK = Check(insecure=True)
ADDRESSES = {"api.example": ("10.0.0.1", "fd00::1"), "lb.example": ("127.0.0.1",)}


def pool(*servers: str, name: str = "default") -> Pool:
    """A pool of these servers."""
    listed = tuple(Server(address=address) for address in servers)
    return Pool(name=name, servers=listed, check=CHECK)


@pytest.mark.parametrize(
    ("key", "text"), [(("10.0.0.1", 1), "10.0.0.1:1"), (("::1", 2), "[::1]:2")]
)
def test_address_is_written_with_brackets_where_needed(key: Key, text: str) -> None:
    assert format_address(*key) == text


def test_names_are_those_that_must_be_resolved() -> None:
    listeners = [Listener(address="lb.example:1"), Listener(address="[::1]:0")]
    assert names_in(listeners, [pool("api.example:1", "10.0.0.2:1")]) == {
        "lb.example",
        "api.example",
    }


def test_name_becomes_a_backend_per_address() -> None:
    servers = (Server(address="api.example:6443", weight=3, tier=1),)
    written = Pool(name="p", servers=servers, check=CHECK, balance="ring")
    made = build_pools([written], Timeouts(), ADDRESSES)["p"]
    assert made.backends == (
        Backend("10.0.0.1", 6443, "api.example", 3, 1),
        Backend("fd00::1", 6443, "api.example", 3, 1),
    )
    assert (made.balance, made.connect_timeout_s, made.slow_start_s) == ("ring", 5, 30)


def test_address_behind_two_names_is_one_backend() -> None:
    made = build_pools([pool("10.0.0.1:1", "api.example:1")], Timeouts(), ADDRESSES)
    assert [each.host for each in made["default"].backends] == ["10.0.0.1", "fd00::1"]


def test_listener_without_pool_has_the_only_one() -> None:
    pools = build_pools([pool("10.0.0.1:1")], Timeouts(), {})
    listeners = [Listener(address="lb.example:1"), Listener(address="[::1]:2")]
    vips = build_vips(listeners, pools, {"default": CHECK}, Timeouts(), ADDRESSES)
    assert [vip.key for vip in vips] == [("tcp", "127.0.0.1", 1), ("tcp", "::1", 2)]
    assert {vip.pool.name for vip in vips} == {"default"}


def test_listener_gets_the_pool_that_it_names() -> None:
    written = [pool("10.0.0.1:1", name="a"), pool("10.0.0.2:1", name="b")]
    pools = build_pools(written, Timeouts(), {})
    listeners = [Listener(address="[::1]:2", pool="b")]
    checks = {"a": CHECK, "b": CHECK}
    assert build_vips(listeners, pools, checks, Timeouts(), {})[0].pool.name == "b"


@pytest.mark.parametrize(
    ("said", "check", "expected"),
    [
        ("auto", "tcp", False),
        ("auto", "http", True),
        ("auto", "https", True),
        (True, "tcp", True),
        (False, "https", False),
    ],
)
def test_client_speaks_first_where_the_check_speaks_tls_or_http(
    said: Literal["auto"] | bool, check: Literal["https", "http", "tcp"], expected: bool
) -> None:
    pools = build_pools([pool("10.0.0.1:1")], Timeouts(), {})
    checks = {"default": Check(type=check, insecure=check == "https")}
    listeners = [Listener(address="[::1]:2", client_first=said)]
    (vip,) = build_vips(listeners, pools, checks, Timeouts(), {})
    assert vip.client_first is expected
