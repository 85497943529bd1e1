"""Backend, Pool and Vip: values, and what a bad one says."""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath import Backend, Pool, ServerTls, TableError, Vip
from fastpath.api.checks import split_network
from fastpath.api.policy import Http
from fastpath.api.spec import MAX_BACKENDS, MAX_DURATION_S, MAX_NETWORKS

BACKEND = Backend("10.0.0.1", 80)


def backend(**changes: Any) -> Backend:
    """Return a backend with one thing changed."""
    return Backend(**{"host": "10.0.0.1", "port": 80, **changes})


def pool(**changes: Any) -> Pool:
    """Return a pool with one thing changed."""
    return Pool(**{"backends": (BACKEND,), **changes})


def vip(**changes: Any) -> Vip:
    """Return a vip with one thing changed."""
    return Vip(**{"host": "127.0.0.1", "port": 7000, "protocol": "tcp", **changes})


NOT_WHOLE = (1.0, "1", None, True, False, (1,), math.nan)
NOT_SECONDS = ("5", "5s", None, True, (5,), 1j)
NO_DURATION = (-1, -0.001, math.nan, math.inf, -math.inf, MAX_DURATION_S + 1, 10**400)

# field -> what the message calls it, then values that are refused
COUNTS: list[tuple[Callable[..., object], str, str, tuple[object, ...]]] = [
    (backend, "port", "port", (0, -1, 65536)),
    (backend, "weight", "weight", (-1, 1001)),
    (backend, "tier", "tier", (-1, 8)),
    (pool, "connect_tries", "connect tries", (0, -1, 5)),
    (pool, "eject_after", "eject after", (-1, 1 << 31)),
    (vip, "port", "port", (-1, 65536)),
    (vip, "max_connections", "max connections", (-1, 1 << 31)),
    (vip, "max_connections_per_source", "max connections per source", (-1, 1 << 31)),
    (vip, "max_new_per_s", "max new per s", (-1, 1 << 31)),
    (vip, "max_new_per_s_per_source", "max new per s per source", (-1, 1 << 31)),
    (vip, "backlog", "backlog", (-1, 0, 65536)),
]
SECONDS: list[tuple[Callable[..., object], str, str, tuple[object, ...]]] = [
    (pool, "connect_timeout_s", "connect timeout", (0,)),
    (pool, "slow_start_s", "slow start", ()),
    (pool, "eject_s", "eject time", ()),
    (vip, "idle_timeout_s", "idle timeout", (0, 0.0)),
    (vip, "keepalive_s", "keepalive", (0.5, 32_768)),
    (vip, "user_timeout_s", "user timeout", ()),
]
WORDS: list[tuple[Callable[..., object], str, str]] = [
    (pool, "balance", "balance"),
    (pool, "ring_key", "ring key"),
    (pool, "on_all_down", "on all down"),
    (vip, "protocol", "protocol"),
]

BAD = [
    *((make, f, name, v) for make, f, name, more in COUNTS for v in NOT_WHOLE + more),
    *(
        (make, f, name, v)
        for make, f, name, more in SECONDS
        for v in NOT_SECONDS + NO_DURATION + more
    ),
    *(
        (make, f, name, v)
        for make, f, name in WORDS
        for v in ("", "TRY", "udp", None, 1, b"try", ["try"])
    ),
    *((make, "host", "host", v) for make in (backend, vip) for v in (None, 1, b"::1")),
    *((pool, "backends", "no list", v) for v in (None, 1, 2.5)),
    *((vip, "pool", "Pool", v) for v in (None, (), BACKEND, [BACKEND])),
    *((vip, "client_first", "client first", v) for v in (None, 0, 1, "yes")),
]


@pytest.mark.parametrize(
    ("make", "field", "name", "value"),
    BAD,
    ids=[f"{make.__name__}-{field}-{value!s:.20}" for make, field, _, value in BAD],
)
def test_bad_value_is_a_table_error_that_names_it(
    make: Callable[..., object], field: str, name: str, value: object
) -> None:
    with pytest.raises(TableError) as caught:
        make(**{field: value})
    message = str(caught.value)
    assert name in message
    shown = repr(value)[:20]
    assert shown in message or value in (0, 0.5), message


@pytest.mark.parametrize("strange", ["ab", [1], [("10.0.0.1", 80)], [BACKEND, None]])
def test_pool_of_other_things_than_backends_is_refused(strange: Any) -> None:
    with pytest.raises(TableError, match="is not a Backend"):
        Pool(strange)


def test_message_says_where() -> None:
    with pytest.raises(TableError, match=r"^backend 10\.0\.0\.1: weight -3 is not in"):
        backend(weight=-3)
    with pytest.raises(TableError, match=r"^vip 127\.0\.0\.1: backlog 0 is not in"):
        vip(backlog=0)


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (backend, {"port": 1}),
        (backend, {"port": 65535}),
        (backend, {"weight": 0}),
        (backend, {"weight": 1000}),
        (backend, {"tier": 7}),
        (pool, {"backends": ()}),
        (pool, {"connect_tries": 4}),
        (pool, {"connect_timeout_s": 1}),
        (pool, {"connect_timeout_s": 1e-9}),
        (pool, {"connect_timeout_s": MAX_DURATION_S}),
        (pool, {"eject_after": 0, "eject_s": 0, "slow_start_s": 0}),
        (vip, {"port": 0}),
        (vip, {"idle_timeout_s": 0.001}),
        (vip, {"keepalive_s": 0}),
        (vip, {"keepalive_s": 1}),
        (vip, {"keepalive_s": 32_767}),
        (vip, {"user_timeout_s": 0}),
        (vip, {"max_connections": (1 << 31) - 1}),
        (vip, {"backlog": 65535}),
        (vip, {"client_first": True}),
        (vip, {"proxy_protocol_from": ("10.0.0.1", "0.0.0.0/0", "fd00::/8", "::/0")}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_values_at_the_edge_are_good(
    make: Callable[..., object], changes: dict[str, object]
) -> None:
    made = make(**changes)
    for name, value in changes.items():
        assert getattr(made, name) == value


@pytest.mark.parametrize(
    ("networks", "complaint"),
    [
        (None, "None: not a list of networks"),
        (1, "1: not a list of networks"),
        ("10.0.0.0/8", "'10.0.0.0/8': not a list of networks"),
        ((1,), "1 is not a string"),
        (("10.0.0.1/8",), "'10.0.0.1/8' is not a network: 10.0.0.1/8 has host bits"),
        (("::1", "10.0.0.0/33"), "'10.0.0.0/33' is not a network"),
        (("example.org",), "'example.org' is not a network"),
        (("",), "'' is not a network"),
        (("fe80::1%eth0",), "'fe80::1%eth0' has a zone"),
    ],
    ids=str,
)
def test_what_is_no_list_of_networks_is_refused(networks: Any, complaint: str) -> None:
    start = re.escape(f"vip 127.0.0.1: proxy protocol from {complaint}")
    with pytest.raises(TableError, match=f"^{start}"):
        vip(proxy_protocol_from=networks)


def test_proxy_protocol_is_refused_where_http_is_spoken() -> None:
    # An exchange would know the peer's address only, and log it as the client's.
    with pytest.raises(TableError, match=r"proxy protocol from ::1: not with http"):
        vip(http=Http(), proxy_protocol_from=("::1",))


def test_networks_have_an_upper_bound() -> None:
    many = tuple(f"10.0.0.{number}" for number in range(MAX_NETWORKS))
    assert vip(proxy_protocol_from=many).proxy_protocol_from == many
    with pytest.raises(TableError, match="more than 256 networks"):
        vip(proxy_protocol_from=[*many, "::1"])


def test_networks_are_kept_as_a_tuple() -> None:
    assert vip(proxy_protocol_from=["::1"]) == vip(proxy_protocol_from=("::1",))


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("10.0.0.0/8", ("10.0.0.0", 8)),
        ("10.1.2.3", ("10.1.2.3", 32)),
        ("0.0.0.0/0", ("0.0.0.0", 0)),
        ("FD00::/8", ("fd00::", 8)),
        ("::/0", ("::", 0)),
        ("::ffff:10.0.0.0/104", ("10.0.0.0", 8)),  # the core sees IPv4 clients there
        ("::ffff:0:0/96", ("0.0.0.0", 0)),
    ],
)
def test_network_is_split_into_its_address_and_bits(
    text: str, split: tuple[str, int]
) -> None:
    assert split_network(text) == split


def test_pool_takes_any_iterable_and_keeps_a_tuple() -> None:
    backends = [Backend("10.0.0.1", port) for port in (80, 81)]
    assert Pool(backends).backends == tuple(backends)
    strange: Any = iter(backends)
    assert Pool(strange).backends == tuple(backends)
    assert Pool(backends) == Pool(tuple(backends))


def test_backend_may_not_stand_twice_in_a_pool() -> None:
    with pytest.raises(TableError, match=r"10\.0\.0\.1 port 80 stands twice"):
        Pool((BACKEND, Backend("10.0.0.2", 80), Backend("10.0.0.1", 80, weight=5)))


def test_pool_has_an_upper_bound() -> None:
    many = tuple(
        Backend(f"10.0.{number >> 8}.{number & 255}", 80 + (number >> 16))
        for number in range(MAX_BACKENDS + 1)
    )
    assert len(Pool(many[:MAX_BACKENDS]).backends) == MAX_BACKENDS
    with pytest.raises(TableError, match="more than 65536 backends in a pool"):
        Pool(many)
    with pytest.raises(TableError, match="more than 8192 backends in a ring"):
        Pool(many[:8193], balance="ring")


@pytest.mark.parametrize(
    "made", [backend(), pool(), vip()], ids=lambda v: type(v).__name__
)
def test_values_are_frozen_hashable_and_equal_by_content(made: Any) -> None:
    for field in dataclasses.fields(made):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, getattr(made, field.name))
    with pytest.raises((AttributeError, TypeError)):
        made.something_else = 1
    twin = dataclasses.replace(made)
    assert twin == made
    assert hash(twin) == hash(made)
    assert twin is not made


@pytest.mark.parametrize(
    ("made", "changes"),
    [
        (backend(), {"host": "10.0.0.2", "port": 81, "weight": 2, "tier": 1}),
        (
            pool(),
            {
                "backends": (),
                "balance": "ring",
                "ring_key": "5-tuple",
                "on_all_down": "refuse",
                "connect_timeout_s": 1.0,
                "connect_tries": 1,
                "slow_start_s": 1.0,
                "eject_after": 1,
                "eject_s": 1.0,
                "affinity_s": 1.0,
            },
        ),
        (
            vip(http=Http()),
            {
                "host": "127.0.0.2",
                "port": 1,
                "pool": pool(),
                "bind": False,
                "idle_timeout_s": 1.0,
                "keepalive_s": 1.0,
                "user_timeout_s": 1.0,
                "client_first": True,
                "max_connections": 1,
                "max_connections_per_source": 1,
                "max_new_per_s": 1,
                "max_new_per_s_per_source": 1,
                "backlog": 1,
                "http": Http(log=True),
                "tls": ServerTls(((b"-----BEGIN", b"-----BEGIN"),)),
                "near": ("10.0.0.0/8",),
            },
        ),
    ],
    ids=["backend", "pool", "vip"],
)
def test_whatever_differs_makes_it_another_value(
    made: Any, changes: dict[str, object]
) -> None:
    # The engine keeps what is equal: a field left out here would never be applied.
    fields = {field.name for field in dataclasses.fields(made)} - {"protocol"}
    # Not with http; the next tests have them.
    fields -= {"proxy_protocol_from", "near_pool", "keep_source"}
    assert set(changes) == fields
    for name, value in changes.items():
        assert dataclasses.replace(made, **{name: value}) != made


def test_vip_that_trusts_others_is_another_value() -> None:
    made = {vip(), vip(proxy_protocol_from=("::1",)), vip(proxy_protocol_from=("::",))}
    assert len(made) == 3


def test_near_clients_make_another_value() -> None:
    made = {vip(), vip(near_pool=pool()), vip(near_pool="near")}
    made |= {vip(keep_source=kept) for kept in ("near", "far", "all")}
    assert len(made) == 6


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"near": "10.0.0.0/8"}, "not a list of networks"),
        ({"near": ("10.0.0.1/8",)}, "not a network"),
        ({"near_pool": ""}, "is not a Pool"),
        ({"keep_source": "some"}, "is none of"),
        ({"keep_source": "all", "http": Http()}, "not with http"),
        ({"near_pool": "near", "http": Http()}, "not with http"),
        ({"keep_source": "far", "proxy_protocol_from": ("::/0",)}, "PROXY headers"),
    ],
)
def test_near_clients_that_the_core_cannot_serve_are_refused(
    fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(TableError, match=complaint):
        vip(**fields)


def test_key_is_the_address() -> None:
    assert backend(weight=3).key == ("10.0.0.1", 80)
    assert vip().key == ("tcp", "127.0.0.1", 7000)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
)


@pytest.mark.slow
@given(
    st.sampled_from(
        [
            (make, field.name)
            for make in (backend, pool, vip)
            for field in dataclasses.fields(make())
        ]
    ),
    scalars,
)
def test_nothing_but_a_table_error_comes_of_a_strange_value(
    place: tuple[Callable[..., object], str], value: object
) -> None:
    make, field = place
    try:
        made = make(**{field: value})
    except TableError:
        return
    hash(made)
