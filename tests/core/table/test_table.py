"""Tables: what is refused as a whole, though each part of it is good."""

from typing import Any

import pytest

from fastpath import Backend, Pool, Table, TableError, Vip


def vip(host: str = "127.0.0.1", port: int = 7000, *backends: Backend) -> Vip:
    """Return a vip over these backends."""
    return Vip(host, port, "tcp", Pool(backends))


def test_table_finds_its_vips_by_address() -> None:
    one, other = vip(), vip("::1", 7000)
    table = Table([one, other])
    assert dict(table.vips) == {one.key: one, other.key: other}
    assert dict(Table().vips) == {}
    assert dict(Table(iter([one])).vips) == {one.key: one}


def test_table_does_not_change_afterwards() -> None:
    table: Any = Table([vip()])
    with pytest.raises(TypeError):
        table.vips["tcp", "::1", 7000] = vip("::1")
    with pytest.raises(TypeError):
        del table.vips["tcp", "127.0.0.1", 7000]


HOSTS = [
    "",
    "localhost",
    "example.com",
    "1.2.3",
    "1.2.3.4.5",
    "256.0.0.1",
    "127.0.0.01",
    "0x7f000001",
    "fe80::1%lo",
    "[::1]",
    "::1 ",
    "1.2.3.4\0",
    "1.2.3.4\0.example.com",
    "\0",
    "\u0661.2.3.4",
    "\udc80",
]


@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_host_that_is_no_address_is_refused_by_its_name(host: str) -> None:
    for bad in (vip(host), vip("127.0.0.1", 7000, Backend(host, 80))):
        with pytest.raises(TableError) as caught:
            Table([bad])
        assert repr(host) in str(caught.value)
        assert "not an IPv4 or IPv6 address" in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("2001:db8::A", "2001:DB8::a"),
        ("10.0.0.1", "::ffff:10.0.0.1"),
        ("::ffff:10.0.0.1", "::ffff:a00:1"),
    ],
)
def test_two_spellings_of_one_address_are_one_address(one: str, other: str) -> None:
    with pytest.raises(TableError, match=r"two vips on .* port 7000"):
        Table([vip(one), vip(other)])
    if one == other:
        return  # Pool sees that itself
    with pytest.raises(TableError, match=r"backend .* port 80 stands twice in a pool"):
        Table([vip("127.0.0.1", 1, Backend(one, 80), Backend(other, 80))])


def test_what_differs_in_port_or_pool_is_no_duplicate() -> None:
    backend = Backend("10.0.0.1", 80)
    table = Table(
        [
            vip("127.0.0.1", 7000, backend, Backend("10.0.0.1", 81)),
            vip("127.0.0.1", 7001, backend),
            vip("0.0.0.0", 7000, backend),
            vip("::", 7000, backend),
        ]
    )
    assert len(table.vips) == 4


def test_any_free_port_can_be_asked_for_once_per_address() -> None:
    # (host, port) is what a vip is called afterwards.
    assert len(Table([vip("127.0.0.1", 0), vip("127.0.0.2", 0)]).vips) == 2
    with pytest.raises(TableError, match=r"two vips on 127\.0\.0\.1 port 0"):
        Table([vip("127.0.0.1", 0), vip("127.0.0.1", 0)])


@pytest.mark.parametrize("item", [None, 1, "127.0.0.1:80", ("127.0.0.1", 80), Pool(())])
def test_item_that_is_no_vip_is_refused(item: Any) -> None:
    with pytest.raises(TableError, match="is not a Vip"):
        Table([item])
