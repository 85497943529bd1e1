"""Listening sockets, as the kernel sees them."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fastpath import Vip
from fastpath.table.listener import (
    accept,
    open_listeners,
    set_listeners,
)
from tests.support.leaks import Holdings

TCP_INFO_SACKED = struct.Struct("=8B6I")  # up to tcpi_sacked: a listener's backlog


def vip(host: str = "127.0.0.1", port: int = 0, **options: Any) -> Vip:
    """Return a vip to listen on; nothing is kept alive unless asked for."""
    return Vip(host, port, "tcp", **{"keepalive_s": 0, "user_timeout_s": 0, **options})


@contextmanager
def listening(
    host: str = "127.0.0.1", port: int = 0, **options: Any
) -> Iterator[tuple[tuple[str, int], int]]:
    """Listen with one socket: its address and descriptor."""
    sockets = open_listeners(vip(host, port, **options), 1)
    try:
        yield sockets.address, sockets.numbers[0]
    finally:
        sockets.close()


def close_all(fds: list[int]) -> None:
    """Close what was accepted."""
    for fd in fds:
        os.close(fd)


@contextmanager
def as_socket(fd: int) -> Iterator[socket.socket]:
    """Look at a descriptor that somebody else owns."""
    view = socket.socket(fileno=fd)
    yield view
    view.detach()


@contextmanager
def accepted(address: tuple[str, int], fd: int) -> Iterator[int]:
    """Connect, and give the descriptor of the listener's end."""
    with socket.create_connection(address) as client:
        got, host, port = accept(fd)
        assert (host, port) == client.getsockname()[:2]
        yield got
        os.close(got)


def options_of(fd: int) -> dict[str, int]:
    """Return what a connection has of what its listener was told."""
    tcp = socket.IPPROTO_TCP
    with as_socket(fd) as view:
        return {
            "keepalive": view.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            "idle_s": view.getsockopt(tcp, socket.TCP_KEEPIDLE),
            "interval_s": view.getsockopt(tcp, socket.TCP_KEEPINTVL),
            "probes": view.getsockopt(tcp, socket.TCP_KEEPCNT),
            "user_timeout_ms": view.getsockopt(tcp, socket.TCP_USER_TIMEOUT),
            "nodelay": view.getsockopt(tcp, socket.TCP_NODELAY),
        }


def backlog_of(fd: int) -> int:
    """Return how many clients may wait, as `ss -l` shows it (tcp_diag)."""
    with as_socket(fd) as view:
        info = view.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    return int(TCP_INFO_SACKED.unpack(info)[-1])


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "0.0.0.0",
        pytest.param("::1", marks=pytest.mark.ipv6),
        pytest.param("::", marks=pytest.mark.ipv6),
    ],
)
def test_port_zero_takes_a_free_one_and_says_which(host: str) -> None:
    with listening(host) as (address, fd):
        assert address[0] == host
        assert address[1] > 0
        with as_socket(fd) as view:
            assert view.getsockname()[:2] == address
            assert view.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_sockets_neither_block_nor_are_inherited() -> None:
    with listening() as (address, fd), accepted(address, fd) as got:
        for each in (fd, got):
            assert not os.get_blocking(each)
            assert not os.get_inheritable(each)
        with pytest.raises(BlockingIOError):
            accept(fd)


def test_client_inherits_what_the_listener_was_told() -> None:
    with (
        listening(keepalive_s=30, user_timeout_s=12.345) as (address, fd),
        accepted(address, fd) as got,
    ):
        assert options_of(got) == {
            "keepalive": 1,
            "idle_s": 30,
            "interval_s": 10,
            "probes": 3,
            "user_timeout_ms": 12_345,
            "nodelay": 1,
        }


@pytest.mark.parametrize(
    ("keepalive_s", "interval_s"), [(1, 1), (2, 1), (3, 1), (9, 3), (32_767, 10_922)]
)
def test_probes_are_a_third_of_the_idle_time_apart(
    keepalive_s: int, interval_s: int
) -> None:
    with listening(keepalive_s=keepalive_s) as (address, fd):
        with accepted(address, fd) as got:
            options = options_of(got)
    assert (options["idle_s"], options["interval_s"]) == (keepalive_s, interval_s)


def test_no_keepalive_is_none() -> None:
    with listening() as (address, fd), accepted(address, fd) as got:
        assert options_of(got)["keepalive"] == 0
        assert options_of(got)["user_timeout_ms"] == 0


def test_live_listener_can_be_told_anew() -> None:
    sockets = open_listeners(vip(keepalive_s=30, backlog=8), 1)
    with contextlib.closing(sockets):
        address, fd = sockets.address, sockets.numbers[0]
        with accepted(address, fd) as before:
            other = vip(keepalive_s=60, user_timeout_s=0.777, backlog=32)
            set_listeners(other, sockets)
            assert options_of(before)["idle_s"] == 30, "it was told when it came"
        with accepted(address, fd) as got:
            assert options_of(got)["idle_s"] == 60
            assert options_of(got)["user_timeout_ms"] == 777
        assert backlog_of(fd) == 32
        set_listeners(vip(backlog=8), sockets)
        with accepted(address, fd) as got:
            assert options_of(got)["keepalive"] == 0
        assert backlog_of(fd) == 8


@pytest.mark.parametrize("backlog", [1, 100])
def test_backlog_is_the_kernels(backlog: int) -> None:
    with listening(backlog=backlog) as (_, fd):
        assert backlog_of(fd) == backlog


@pytest.mark.parametrize("client_first", [True, False])
def test_client_that_speaks_first_is_accepted_with_its_bytes(
    client_first: bool,
) -> None:
    with listening(client_first=client_first) as (address, fd):
        with as_socket(fd) as view:
            deferred_s = view.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
        assert bool(deferred_s) == client_first
        with socket.create_connection(address) as client:
            silent = take_all(fd)
            assert len(silent) == (0 if client_first else 1)
            client.sendall(b"hello")
            got = [*silent, *take_all(fd)]
            assert os.read(got[0], 10) == b"hello"
            close_all(got)


def take_all(fd: int) -> list[int]:
    """Accept all that wait."""
    got: list[int] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            got.append(accept(fd)[0])
    return got


def test_workers_listen_side_by_side() -> None:
    sockets = open_listeners(vip(backlog=64), 3)
    clients = [socket.create_connection(sockets.address) for _ in range(60)]
    taken = [take_all(fd) for fd in sockets.numbers]
    for client in clients:
        client.close()
    sockets.close()
    close_all([fd for one in taken for fd in one])
    assert sum(map(len, taken)) == 60
    assert all(taken), "the kernel shares out by a hash of the ports"


@pytest.mark.ipv6
def test_ipv6_wildcard_leaves_ipv4_to_others() -> None:
    with listening("::") as (address, _), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", address[1]))


@pytest.mark.parametrize(
    "host", ["192.0.2.1", pytest.param("2001:db8::1", marks=pytest.mark.ipv6)]
)
def test_address_that_is_not_ours_is_refused_by_name(host: str) -> None:
    shown = f"[{host}]" if ":" in host else host
    with pytest.raises(OSError, match="cannot listen on") as caught:
        open_listeners(vip(host, 8080), 2)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert f"cannot listen on {shown}:8080: " in str(caught.value)


def test_port_that_is_taken_is_refused_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        before = Holdings.now()
        with pytest.raises(OSError, match="cannot listen on") as caught:
            open_listeners(vip(*other.getsockname()), 4)
        assert caught.value.errno == errno.EADDRINUSE
        assert not before.new_in(Holdings.now())


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_port_of_another_process_of_this_user_is_refused(
    host: str, free_port: int
) -> None:
    # Symptom: two engines shared a port, and the kernel their clients.
    with listening("127.0.0.1", free_port) as (address, _):
        for count in (1, 2):
            with pytest.raises(OSError, match="cannot listen on") as caught:
                open_listeners(vip(host, address[1]), count)
            assert caught.value.errno == errno.EADDRINUSE
        open_listeners(vip(host, address[1]), 2, beside=True).close()


def test_mapped_address_listens_on_ipv4() -> None:
    with listening("::ffff:127.0.0.1") as (address, fd):
        assert address[0] == "127.0.0.1"
        with accepted(address, fd):
            pass


@pytest.mark.ipv6
def test_client_of_ipv6_is_named_as_such() -> None:
    with listening("::1") as (address, fd), socket.create_connection(address) as client:
        got, host, port = accept(fd)
        os.close(got)
        assert (host, port) == client.getsockname()[:2]
