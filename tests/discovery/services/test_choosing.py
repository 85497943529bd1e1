"""Which endpoints a port uses from here: hints, policies, states, places.

Source: the rows of kubernetes, pkg/proxy/topology_test.go (TestCategorizeEndpoints) and
endpointslicecache_test.go, in own words; hints count whatever annotations say (1.36).
"""

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from pyproxy.discovery.services.endpoints import choose, groups, merge, strangers
from pyproxy.discovery.services.here import Here
from pyproxy.kube.slices import BriefEndpoint, BriefSlice
from pyproxy.model import Key
from tests.support.services_rig import endpoint, slice_of

HERE = Here("here", zone="a")


def at(
    *places: str, state: str = "ready", zones: str = "", nodes: str = ""
) -> list[BriefEndpoint]:
    """Return endpoints 10.0.0.N: "3@here", or "3" on another node."""
    return [
        endpoint(
            f"10.0.0.{number}",
            node or "there",
            state,
            zones.split(),
            nodes.split(),
        )
        for number, _, node in (place.partition("@") for place in places)
    ]


class Row(NamedTuple):
    """What is there, which sets are asked for, and what they come to."""

    endpoints: list[BriefEndpoint]
    cluster: str | None  # last numbers of addresses; None = not asked for
    local: str | None = None
    has_any: bool = True
    zone: str = "a"


SPREAD = [
    *at("3", zones="a"),
    *at("4", zones="b"),
    *at("5", zones="c"),
    *at("6", zones="a"),
]
ROWS = {
    "zone hints": Row(SPREAD, "3 6"),
    "zone hints do not narrow the local set": Row(
        [*at("3@here", zones="a"), *at("4@here", zones="b"), *at("5", zones="c")],
        "3",
        "3 4",
    ),
    "node without a zone": Row(at("3", zones="a"), "3", zone=""),
    "no endpoint for this zone": Row(at("3", zones="a"), "3", zone="b"),
    "unready endpoint of this zone": Row(
        [*SPREAD[:3], *at("6", zones="a", state="unready")], "3"
    ),
    "only unready ones in this zone": Row(
        [
            *at("3", "6", zones="a", state="unready"),
            *at("4", zones="b"),
            *at("5", zones="c"),
        ],
        "4 5",
    ),
    "one hint is missing": Row([*SPREAD[:2], *at("5"), *SPREAD[3:]], "3 4 5 6"),
    "hint of an unready one is missing": Row(
        [*SPREAD[:2], *at("5", state="unready"), *SPREAD[3:]], "3 6"
    ),
    "several zones each": Row(
        [
            *at("3", zones="a b c"),
            *at("4", zones="b c"),
            *at("5", zones="b d"),
            *at("6", zones="c"),
        ],
        "3 4 6",
        zone="c",
    ),
    "hints against places": Row(
        [
            *at("0@here", "2", zones="a"),
            *at("1@here", "3", zones="b"),
        ],
        "0 2",
        "0 1",
    ),
    "node hints": Row([*at("3", nodes="here"), *at("4", nodes="there")], "3"),
    "node hints win over zone hints": Row(
        [*at("3", nodes="here", zones="a"), *at("4", nodes="there", zones="a")], "3"
    ),
    "no node hint for this node, zone hints do": Row(
        [*at("3", nodes="x", zones="a"), *at("4", nodes="y", zones="b")], "3"
    ),
    "a node hint is missing, zone hints do": Row(
        [*at("3", nodes="here", zones="b"), *at("4", zones="a")], "4"
    ),
    "nothing at all": Row([], "", "", has_any=False),
    "local: all are elsewhere": Row(at("0", "1"), None, ""),
    "local: all are here": Row(at("0@here", "1@here"), None, "0 1"),
    "local: some are here": Row(at("0@here", "1"), None, "0"),
    "none is ready": Row(at("0", "1", state="unready"), "", has_any=False),
    "one is ready": Row([*at("0", state="unready"), *at("1")], "1"),
    "all are leaving": Row(at("0@here", "1", state="leaving"), "0 1"),
    "all are leaving, hints do not matter then": Row(
        [
            *at("0", state="leaving", zones="a"),
            *at("1", state="leaving", zones="b"),
        ],
        "0 1",
    ),
    "all are ending": Row(at("0@here", "1", state="ending"), "", "", has_any=False),
    "both sets": Row(at("0@here", "1"), "0 1", "0"),
    "both sets, all elsewhere": Row(at("0", "1"), "0 1", ""),
    "both sets, leaving elsewhere": Row(at("0", "1", state="leaving"), "0 1", ""),
    "leaving here, ready elsewhere": Row(
        [
            *at("0"),
            *at("1@here", state="unready"),
            *at("2@here", state="leaving"),
            *at("3", state="leaving"),
        ],
        "0",
        "2",
    ),
    "leaving here, ready here": Row(
        [*at("0@here"), *at("2@here", state="leaving")], "0", "0"
    ),
    "conditions not said": Row(at("0@here", state="unsaid"), "0", "0"),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_sets_are_those_of_upstream(row: Row) -> None:
    found = groups([slice_of("ns/svc", *row.endpoints)] if row.endpoints else [])
    merged = merge(found.get(("p80", "TCP", "IPv4"), []), "here")
    here = Here("here", zone=row.zone)
    wants = {"cluster": row.cluster is not None, "local": row.local is not None}
    usable = choose(merged, here, **wants)
    assert ends_of(usable.cluster) == (row.cluster or "")
    assert ends_of(usable.local) == (row.local or "")
    assert usable.has_any is row.has_any


def ends_of(used: Sequence[Key]) -> str:
    """Return the last numbers of addresses."""
    return " ".join(host.rpartition(".")[2] for host, _ in used)


def merged_of(*slices: BriefSlice, group: str = "p80") -> list[str]:
    """Return the endpoints of a port, `*` at those that are here, `-` unready."""
    parts = groups(slices)[group, "TCP", "IPv4"]
    merged = merge(parts, "here")
    return [
        f"{host}:{number}{'*' * (row[2] == 'here')}{'-' * (not row[1] & 1)}"
        for (host, number), row in sorted(merged.items())
    ]


def test_two_slices_are_a_union() -> None:
    first = slice_of("ns/svc", *at("1", "2"))
    second = slice_of("ns/svc", *at("2", "3@here"), number=2)
    assert merged_of(first, second) == ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80*"]


def test_ports_of_a_slice_have_all_its_endpoints() -> None:
    both = (("http", 80, "TCP"), ("https", 443, "TCP"))
    made = slice_of("ns/svc", *at("1", "2@here"), ports=both)
    assert merged_of(made, group="http") == ["10.0.0.1:80", "10.0.0.2:80*"]
    assert merged_of(made, group="https") == ["10.0.0.1:443", "10.0.0.2:443*"]


def test_one_address_with_two_numbers_is_two_endpoints() -> None:
    first = slice_of("ns/svc", *at("1", "2@here"))
    second = slice_of(
        "ns/svc", *at("1", "2@here"), number=2, ports=(("p80", 8080, "TCP"),)
    )
    assert merged_of(first, second) == [
        "10.0.0.1:80",
        "10.0.0.1:8080",
        "10.0.0.2:80*",
        "10.0.0.2:8080*",
    ]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("one", "other", "outcome"),
    [
        (at("1@here", state="unready"), at("1"), "10.0.0.1:80*-"),
        (at("1"), at("1", state="unready"), "10.0.0.1:80"),
        (at("1", state="unready"), at("1", state="leaving"), "10.0.0.1:80-"),
        (at("1@here"), at("1@here", state="leaving"), "10.0.0.1:80*"),
    ],
    ids=["local wins", "ready wins", "none is ready", "both are here"],
)
def test_copies_count_once_in_any_order(
    one: list[BriefEndpoint], other: list[BriefEndpoint], outcome: str, turned: bool
) -> None:
    slices = [slice_of("ns/svc", *one), slice_of("ns/svc", *other, number=2)]
    assert merged_of(*(reversed(slices) if turned else slices)) == [outcome]


@pytest.mark.parametrize(
    "ports",
    [(), ((None, 80, "TCP"),), (("p80", None, "TCP"),), (("p80", 0, "TCP"),)],
    ids=["no ports", "no name", "all ports", "port 0"],
)
def test_slices_without_a_port_offer_nothing(
    ports: tuple[tuple[str | None, int | None, str], ...],
) -> None:
    assert groups([slice_of("ns/svc", *at("1"), ports=ports)]) == {}


def test_what_is_no_address_of_the_family_is_left_out() -> None:
    odd = [endpoint(each) for each in ("::1", "10.0.0.01", "name", "", "10.0.0.1 ")]
    made = slice_of("ns/svc", *at("1"), *odd)
    assert merged_of(made) == ["10.0.0.1:80"]


def test_an_address_has_one_spelling() -> None:
    made = slice_of("ns/svc", endpoint("FD00:0::1"), endpoint("fd00::1"))
    merged = merge(groups([made])["p80", "TCP", "IPv6"], "here")
    assert [*merged] == [("fd00::1", 80)]


def test_strangers_are_told_in_the_same_way_in_any_order() -> None:
    # Seen by 20,000 random histories: the first one of the slice that came first.
    first = slice_of("ns/svc", endpoint("fd00::2"), endpoint("x"), family="IPv4")
    second = slice_of("ns/svc", endpoint("fd00::1"), family="IPv4", number=2)
    for slices in ([first, second], [second, first]):
        parts = groups(slices)["p80", "TCP", "IPv4"]
        assert strangers(parts, "IPv4") == ["endpoint 'fd00::1' and 2 more: not IPv4"]
