"""Lists and lines cut out of a stream of bytes: the same, however the bytes come."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.kube.objects import ListMeta, Service
from pyproxy.kube.resource import ENDPOINT_SLICES, SERVICES
from pyproxy.kube.splitting import LineReader, ListReader, MalformedError, Unread
from tests.support.kube_server import dumps, listed, service

SOME = [
    service("a", 5),
    service("b", 6, externalName='},{"metadata":{ "items":[ \\" é\n'),
    service("c", 7, ports=[{"port": 80}, {"port": 81}]),
]


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """Yield the parts between the places."""
    ends = sorted({place % (len(data) + 1) for place in places})
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        if start < end:
            yield data[start:end]


def read(data: bytes, places: list[int] | None = None) -> list[object]:
    """Read a list of Services in parts."""
    reader = ListReader(SERVICES)
    found: list[object] = []
    for part in cut(data, places or []):
        found += reader.feed(part)
    return [*found, *reader.finish()]


def names(found: list[object]) -> list[str]:
    """Return the names of Services, and the version of the list."""
    return [
        each.metadata.name if isinstance(each, Service) else each.resource_version
        for each in found
        if isinstance(each, Service | ListMeta)
    ]


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_list_cut_anywhere_is_the_same(places: list[int]) -> None:
    assert names(read(dumps(listed(SOME, 9)), places)) == ["a", "b", "c", "9"]


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_lines_cut_anywhere_are_the_same(places: list[int]) -> None:
    data = b"".join(dumps(each) for each in SOME) + b"\n\nrest"
    reader, lines = LineReader(), []
    for part in cut(data, places):
        lines += reader.feed(part)
    assert [json.loads(line) for line in lines] == SOME
    assert reader.is_amid_a_line


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_list_of_a_go_server_is_read(count: int, step: int) -> None:
    data = dumps(listed(SOME[:count], 9, "next"))
    found = read(data, list(range(0, len(data), step)))
    assert names(found) == [*"abc"[:count], "9"]
    assert isinstance(found[-1], ListMeta)
    assert found[-1].continue_ == "next"


def test_list_in_the_order_of_unstructured_objects_is_read() -> None:
    # Lists of custom resources come from maps: sorted keys, apiVersion in each item,
    # and metadata after the items.
    document = {
        "apiVersion": "v1",
        "items": [dict(sorted(each.items())) for each in SOME],
        "kind": "ServiceList",
        "metadata": {"resourceVersion": "9"},
    }
    assert names(read(dumps(document), [100, 200])) == ["a", "b", "c", "9"]


@pytest.mark.parametrize("items", [None, [], SOME])
def test_list_written_otherwise_is_read_at_its_end(items: list[object] | None) -> None:
    document = {"metadata": {"resourceVersion": "9"}, "items": items}
    data = json.dumps(document, indent=1).encode()
    found = names(read(data, [50, 300]))
    assert found == [*(["a", "b", "c"] if items else []), "9"]


def test_lists_inside_items_do_not_break_them() -> None:
    # The boundary between items also occurs inside one, in a nested list.
    nested = [{"metadata": {"n": 1}}, {"metadata": {"n": 2}}]
    items = [service("a", 5, nested=nested), service("b", 6, nested=nested)]
    assert names(read(dumps(listed(items, 9)), [150])) == ["a", "b", "9"]


def test_item_of_an_unknown_shape_is_named() -> None:
    items = [service("a", 5), service("odd", 6, ports=7), service("b", 8)]
    for places in ([], [150, 350]):
        found = read(dumps(listed(items, 9)), places)
        assert names(found) == ["a", "b", "9"]
        (odd,) = (each for each in found if isinstance(each, Unread))
        assert odd.metadata.key == "x/odd"
        assert "ports" in odd.why


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"<html>",
        b'{"items":[{"metadata":{}},{"metadata"',
        b'{"items":[{"metadata":{}} {"metadata":{}}]}',
        b'{"items":[{"metadata":7}]}',
        b'{"items":[7]}',
        dumps(listed(SOME, 9))[:-3],
        dumps(listed(SOME, 9)) + b"x",
    ],
)
def test_what_is_no_list_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data)


def test_line_beyond_the_bound_is_malformed() -> None:
    reader = LineReader(limit=1 << 20)
    assert reader.feed(b"x" * (1 << 20)) == []
    with pytest.raises(MalformedError, match="more than 1 MiB"):
        reader.feed(b"x")


def test_item_beyond_the_bound_is_malformed() -> None:
    reader = ListReader(ENDPOINT_SLICES, limit=1 << 20)
    assert not list(reader.feed(b'{"metadata":{},"items":[{"metadata":{"name":"'))
    with pytest.raises(MalformedError, match="more than 1 MiB"):
        list(reader.feed(b"x" * (1 << 20)))
