"""Listening sockets that somebody else made: taken over, shared, and left behind."""

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fastpath import Backend, Engine, Pool, Table, Vip
from tests.core.engine.test_apply import calling
from tests.support.leaks import Holdings, leaked_since
from tests.support.relay_tools import echoes
from tests.support.servers import EchoServer
from tests.support.waiting import scaled, wait_until

Key = tuple[str, int]


def table(at: Key, *backends: Key, **options: Any) -> Table:
    """One vip."""
    pool = Pool([Backend(*backend) for backend in backends])
    return Table([Vip(*at, "tcp", pool, **options)])


def tcp(at: Key) -> tuple[str, str, int]:
    """Key of the vip at an address."""
    return ("tcp", *at)


def key_of(listening: socket.socket) -> Key:
    """Where it listens."""
    host, port = listening.getsockname()[:2]
    return host, port


@contextlib.contextmanager
def side_by_side(count: int) -> Iterator[list[socket.socket]]:
    """Sockets that listen on one address."""
    with contextlib.ExitStack() as stack:
        port, made = 0, []
        for _ in range(count):
            each = socket.create_server(("127.0.0.1", port), reuse_port=True)
            made.append(stack.enter_context(each))
            port = each.getsockname()[1]
        yield made


@pytest.mark.parametrize("workers", [1, 4])
def test_socket_that_was_given_serves_with_every_number_of_workers(
    workers: int,
) -> None:
    with (
        EchoServer() as server,
        socket.create_server(("127.0.0.1", 0)) as given,
        Engine(workers) as engine,
    ):
        at = key_of(given)
        engine.apply(table(at, server.address), sockets={tcp(at): [given.fileno()]})
        assert engine.address(tcp(at)) == at
        with calling(at):
            wait_until(lambda: engine.stats().vips[tcp(at)].accepted > 100, 30)


def test_worker_that_is_awake_hands_on_what_it_cannot_serve_alone() -> None:
    # One socket wakes one worker: the load must be spread all the same.
    with (
        EchoServer() as server,
        socket.create_server(("127.0.0.1", 0)) as given,
        Engine(2) as engine,
        contextlib.ExitStack() as stack,
    ):
        at = key_of(given)
        engine.apply(
            table(at, server.address, client_first=False),
            sockets={tcp(at): [given.fileno()]},
        )
        for _ in range(40):
            stack.enter_context(socket.create_connection(at, scaled(5)))
        wait_until(lambda: engine.stats().relays_active == 40)
        loads = [worker.active for worker in engine.stats().workers]
        assert min(loads) >= 15, loads


@pytest.mark.parametrize("sockets", [2, 3])
def test_several_sockets_of_one_address_are_all_served(sockets: int) -> None:
    # The kernel shares clients out by a hash: a socket left out would lose some.
    with (
        EchoServer() as server,
        side_by_side(sockets) as given,
        Engine(3) as engine,
    ):
        at = key_of(given[0])
        fds = [each.fileno() for each in given]
        engine.apply(table(at, server.address), sockets={tcp(at): fds})
        assert all(echoes(at, b"%d" % number) for number in range(50))


def test_who_waits_while_nobody_serves_is_served_by_the_next_engine() -> None:
    with EchoServer() as server, socket.create_server(("127.0.0.1", 0)) as given:
        at = key_of(given)
        made = table(at, server.address), {tcp(at): [given.fileno()]}
        with Engine(2) as first:
            first.apply(made[0], sockets=made[1])
            assert echoes(at, b"first")
            first.drain()
        with socket.create_connection(at, scaled(10)) as waiting:
            waiting.sendall(b"hello")
            with Engine(2) as second:
                second.apply(made[0], sockets=made[1])
                assert waiting.recv(5) == b"hello"


def test_engine_closes_its_own_and_not_the_callers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        at = key_of(given)
        before = Holdings.now()
        with Engine(2) as engine:
            engine.apply(
                table(at, ("127.0.0.1", 1)), sockets={tcp(at): [given.fileno()]}
            )
        assert not leaked_since(before)
        assert given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_socket_of_another_vip_is_not_touched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, Engine(1) as engine:
        sockets = {tcp(key_of(other)): [other.fileno()]}
        engine.apply(table(("127.0.0.1", 0), ("127.0.0.1", 1)), sockets=sockets)
        assert engine.address(tcp(("127.0.0.1", 0))) != key_of(other)
        assert other.getblocking()


def silent() -> socket.socket:
    """Bound, and that is all."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made


def datagrams() -> socket.socket:
    """The same for UDP."""
    made = socket.socket(type=socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


@pytest.mark.parametrize("make", [silent, datagrams])
def test_socket_that_does_not_listen_is_refused_and_nothing_changed(make: Any) -> None:
    with make() as given, Engine(2) as engine:
        at = key_of(given)
        before = Holdings.now()
        with pytest.raises(OSError, match="does not listen for TCP") as caught:
            engine.apply(
                table(at, ("127.0.0.1", 1)), sockets={tcp(at): [given.fileno()]}
            )
        assert caught.value.errno == errno.EINVAL
        assert engine.generation == 0
        assert not leaked_since(before)


def test_socket_of_another_address_is_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given, Engine(1) as engine:
        port = given.getsockname()[1]
        made = table(("127.0.0.2", port), ("127.0.0.1", 1))
        wrong = {tcp(("127.0.0.2", port)): [given.fileno()]}
        with pytest.raises(OSError, match=f"listens on 127.0.0.1 port {port}"):
            engine.apply(made, sockets=wrong)


@pytest.mark.parametrize("count", [0, 3])
def test_sockets_that_not_every_client_would_be_taken_from_are_refused(
    count: int,
) -> None:
    with side_by_side(max(count, 1)) as given, Engine(2) as engine:
        at = key_of(given[0])
        sockets = {tcp(at): [each.fileno() for each in given[:count]]}
        with pytest.raises(OSError, match=f"{count} sockets for 2 workers"):
            engine.apply(table(at, ("127.0.0.1", 1)), sockets=sockets)


def test_descriptor_that_is_closed_is_refused() -> None:
    with silent() as given:
        at, number = key_of(given), given.fileno()
    with Engine(1) as engine, pytest.raises(OSError, match="cannot take over") as error:
        engine.apply(table(at, ("127.0.0.1", 1)), sockets={tcp(at): [number + 500]})
    assert error.value.errno == errno.EBADF


# ---- Health that comes with a table.


def test_health_holds_before_the_first_client_comes() -> None:
    with EchoServer() as well, EchoServer() as ill, Engine(1) as engine:
        at = ("127.0.0.1", 0)
        made = table(at, well.address, ill.address)
        engine.apply(made, health={ill.address: "dead", well.address: "ready"})
        assert all(echoes(engine.address(tcp(at)), b"x") for _ in range(20))
        assert (well.accepted, ill.accepted) == (20, 0)
        assert engine.stats().backends[ill.address].health == "dead"


@pytest.mark.parametrize(
    "health",
    [{("127.0.0.1", 2): "dead"}, {("127.0.0.1", 1): "unwell"}],
    ids=["backend", "word"],
)
def test_health_that_means_nothing_is_refused_and_nothing_changed(
    health: dict[Key, Any],
) -> None:
    with Engine(1) as engine:
        before = Holdings.now()
        with pytest.raises(KeyError):
            engine.apply(table(("127.0.0.1", 0), ("127.0.0.1", 1)), health=health)
        assert engine.generation == 0
        assert not leaked_since(before)
