"""The one door to the core, with the real core behind it."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from pyproxy.dataplane import Dataplane
from pyproxy.errors import StartError
from pyproxy.model import Backend, Key, Limits, Pool, Vip
from tests.fakes.patience import until
from tests.support.servers import Address, EchoServer, free_port
from tests.support.waiting import scaled, wait_until

pytestmark = pytest.mark.live


@pytest.fixture
def dataplane() -> Iterator[Dataplane]:
    """A core with one worker."""
    made = Dataplane.open(1)
    yield made
    made.close()


def vip(*backends: Address, port: int = 0, **limits: int) -> Vip:
    """A vip on a free port with these backends."""
    listed = tuple(Backend(each.host, each.port) for each in backends)
    return Vip("127.0.0.1", port, Pool("p", listed), limits=Limits(**limits))


def key(server: EchoServer) -> Key:
    """What the core knows a server by."""
    return (server.address.host, server.address.port)


def talk(address: Key) -> bytes:
    """Send a word through and return the echo; empty when refused or reset."""
    try:
        with socket.create_connection(address, scaled(5)) as client:
            client.sendall(b"word")
            return client.recv(9)
    except OSError:
        return b""


def test_applied_table_forwards(dataplane: Dataplane) -> None:
    with EchoServer() as server:
        wanted = vip(server.address)
        assert dataplane.apply([wanted]) == 1
        assert talk(dataplane.address(wanted.key)) == b"word"
        assert dataplane.vips == (wanted,)
        assert dataplane.last_apply_s > 0


def test_limits_reach_the_core(dataplane: Dataplane) -> None:
    with EchoServer() as server:
        wanted = vip(server.address, max_connections=1)
        dataplane.apply([wanted])
        address = dataplane.address(wanted.key)
        with socket.create_connection(address, scaled(5)) as first:
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            assert talk(address) == b""


def test_address_in_use_is_explained_and_changes_nothing(dataplane: Dataplane) -> None:
    with EchoServer() as server, EchoServer() as squatter:
        wanted = vip(server.address)
        dataplane.apply([wanted])
        taken = vip(server.address, port=squatter.address.port)
        with pytest.raises(StartError) as caught:
            dataplane.apply([wanted, taken])
        assert f"cannot listen on 127.0.0.1:{squatter.address.port}" in str(
            caught.value
        )
        assert "another program listens there" in caught.value.hint
        assert dataplane.vips == (wanted,)
        assert talk(dataplane.address(wanted.key)) == b"word"


def test_foreign_address_is_explained(dataplane: Dataplane) -> None:
    wanted = Vip("192.0.2.1", free_port(), Pool("p", (Backend("127.0.0.1", 1),)))
    with pytest.raises(StartError, match="no interface of this machine"):
        dataplane.apply([wanted])


def test_health_decides_who_gets_new_relays(dataplane: Dataplane) -> None:
    with EchoServer() as one, EchoServer() as other:
        wanted = vip(one.address, other.address)
        dataplane.apply([wanted])
        dataplane.tell({key(one): "dead", ("10.9.9.9", 9): "dead"})
        for _ in range(4):
            assert talk(dataplane.address(wanted.key)) == b"word"
        assert (one.accepted, other.accepted) == (0, 4)


def test_health_survives_an_apply_and_new_backends_are_ready(
    dataplane: Dataplane,
) -> None:
    with EchoServer() as one, EchoServer() as other:
        dataplane.apply([vip(one.address)])
        dataplane.tell({key(one): "draining"})
        dataplane.apply([vip(one.address, other.address)])
        told = dataplane.stats().backends
        assert told[key(one)].health == "draining"
        assert told[key(other)].health == "ready"
        dataplane.tell({key(one): "ready"})
        assert dataplane.stats().backends[key(one)].health == "ready"


def test_reset_cuts_the_relays_of_one_backend(dataplane: Dataplane) -> None:
    with EchoServer() as server:
        wanted = vip(server.address)
        dataplane.apply([wanted])
        address = dataplane.address(wanted.key)
        with socket.create_connection(address, scaled(5)) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            dataplane.reset(("10.9.9.9", 9))  # unknown: nothing
            dataplane.reset(key(server))
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_drain_stops_listening_and_keeps_live_relays(dataplane: Dataplane) -> None:
    with EchoServer() as server:
        wanted = vip(server.address)
        dataplane.apply([wanted])
        address = dataplane.address(wanted.key)
        with socket.create_connection(address, scaled(5)) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            dataplane.drain()
            wait_until(lambda: talk(address) == b"", 5, "nobody listens")
            client.sendall(b"y")
            assert client.recv(1) == b"y"
            assert dataplane.address(wanted.key) == address
        wait_until(lambda: dataplane.stats().relays_active == 0, 5, "the last relay")


async def test_notices_of_failed_connects_arrive_in_the_loop(
    dataplane: Dataplane,
) -> None:
    seen: list[tuple[str, Key]] = []
    closed = Address("127.0.0.1", free_port())
    wanted = vip(closed)
    dataplane.apply([wanted])
    dataplane.watch(lambda kind, key: seen.append((kind, key)))
    await asyncio.to_thread(talk, dataplane.address(wanted.key))
    await until(lambda: ("connect-failed", closed) in seen)
    dataplane.close()
