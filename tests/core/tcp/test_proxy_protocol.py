"""Clients that a trusted peer names by a PROXY header, in the core.

From then on the address in the header is the client's: for limits and for the ring. A
trusted peer that says no header is reset; of others no byte is looked at.
"""

import contextlib
import dataclasses
import random
import socket
from collections.abc import Callable

import pytest

from fastpath import Table
from tests.support.proxy_protocol_tools import (
    HEADERS,
    NETWORKS,
    STRANGER,
    TRUSTED,
    is_served,
    trusting,
)
from tests.support.proxyhead_reference import frame, line
from tests.support.relay_tools import LOOPBACK, Listening, Proxy, greet, wait_for
from tests.support.servers import EchoServer, ScriptedServer, receive_all
from tests.support.waiting import wait_until

pytestmark = pytest.mark.live


def turns_of(proxy: Proxy) -> int:
    """How often the one worker has looked for events."""
    return proxy.engine.stats().workers[0].turns


def saying(what: bytes) -> ScriptedServer:
    """A backend that sends its name and ends the connection."""
    return ScriptedServer(lambda connection: connection.sendall(what))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("client_first", [False, True])
@pytest.mark.parametrize("name", HEADERS)
def test_header_is_taken_and_nothing_behind_it(
    name: str, client_first: bool, workers: int
) -> None:
    body = random.Random(0).randbytes(300_000)
    options = {"client_first": client_first, "workers": workers}
    with EchoServer() as server, trusting(server.address, **options) as proxy:
        for rest in (b"", b"x", body):
            with proxy.connect(TRUSTED) as client:
                client.sendall(HEADERS[name] + rest[:1000])
                if len(rest) > 1000:  # an echo that nobody reads would stall
                    client.sendall(rest[1000:])
                client.shutdown(socket.SHUT_WR)
                assert receive_all(client) == rest
        proxy.wait_drops(closed=3)
        assert proxy.stats.accepted == 3
        assert proxy.stats.bytes_up == len(body) + 1


@pytest.mark.parametrize("name", HEADERS)
def test_header_may_come_a_byte_at_a_time(name: str) -> None:
    header = HEADERS[name][:300]
    if len(HEADERS[name]) > 300:  # in one piece from there: each byte is a turn
        header = HEADERS[name][:1]
    with EchoServer() as server, trusting(server.address) as proxy:
        with proxy.connect(TRUSTED) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in header:
                turns = turns_of(proxy)
                client.sendall(bytes([byte]))
                wait_for(lambda: turns_of(proxy), turns + 1)
            client.sendall(HEADERS[name][len(header) :] + b"hello")
            assert client.recv(100) == b"hello"


def test_backend_that_speaks_first_is_heard_once_the_header_is_there() -> None:
    with Listening() as backend, trusting(backend.address) as proxy:
        with proxy.connect(TRUSTED) as client:
            client.sendall(HEADERS["v1"])
            with backend.accept() as server:
                server.sendall(b"hello")
                assert client.recv(100) == b"hello"
                client.sendall(b"and you")
                assert server.recv(100) == b"and you"


def test_no_backend_hears_of_a_client_without_its_header() -> None:
    with Listening() as backend, trusting(backend.address) as proxy:
        with proxy.connect(TRUSTED) as client:
            client.sendall(HEADERS["v2"][:-1])
            proxy.wait_idle(live=1)
            assert proxy.backend(backend.address).connects == 0
            assert proxy.stats.accepted == 0
            client.sendall(HEADERS["v2"][-1:])
            with backend.accept():
                assert proxy.stats.accepted == 1


# ---- Trust.


def test_of_a_stranger_no_byte_is_looked_at() -> None:
    # A client that could send a header would choose the address that it counts for.
    with EchoServer() as server:
        with trusting(server.address, max_connections_per_source=1) as proxy:
            with proxy.connect(STRANGER) as client:
                client.sendall(HEADERS["v1"])
                assert client.recv(100) == HEADERS["v1"]
                assert not is_served(proxy, line("10.9.9.9", 1), STRANGER)
            proxy.wait_drops(closed=1, limit_source_connections=1)


@pytest.mark.parametrize(
    ("network", "peer", "wanted"),
    [
        ("127.0.0.0/30", "127.0.0.3", True),
        ("127.0.0.0/30", "127.0.0.4", False),
        ("0.0.0.0/0", "127.0.0.4", True),
        ("::/0", "127.0.0.4", False),
        ("::ffff:127.0.0.0/126", "127.0.0.3", True),
        ("::ffff:127.0.0.0/126", "127.0.0.4", False),
        pytest.param("::1", "::1", True, marks=pytest.mark.ipv6),
        pytest.param("::/0", "::1", True, marks=pytest.mark.ipv6),
        pytest.param("::/128", "::1", False, marks=pytest.mark.ipv6),
        pytest.param("0.0.0.0/0", "::1", False, marks=pytest.mark.ipv6),
    ],
)
def test_header_is_wanted_from_the_networks_alone(
    network: str, peer: str, wanted: bool
) -> None:
    host = "::1" if ":" in peer else LOOPBACK
    networks = ("192.0.2.0/24", network)
    with EchoServer() as server:
        with Proxy(server.address, host=host, proxy_protocol_from=networks) as proxy:
            with proxy.connect(peer) as client:
                client.sendall(HEADERS["v2"] + b"x")
                client.shutdown(socket.SHUT_WR)
                said = receive_all(client)
    assert said == (b"x" if wanted else HEADERS["v2"] + b"x")


def test_trust_of_a_new_table_holds_for_who_comes_then() -> None:
    with EchoServer() as server, Proxy(server.address) as proxy:
        with proxy.connect(TRUSTED) as before:
            before.sendall(HEADERS["v1"])
            assert before.recv(100) == HEADERS["v1"]
            changed = dataclasses.replace(proxy.vip, proxy_protocol_from=NETWORKS)
            proxy.engine.apply(Table([changed]))
            assert is_served(proxy, HEADERS["v1"])
            before.sendall(HEADERS["v1"])
            assert before.recv(100) == HEADERS["v1"]
            proxy.engine.apply(Table([proxy.vip]))
            with proxy.connect(TRUSTED) as after:
                after.sendall(HEADERS["v1"])
                assert after.recv(100) == HEADERS["v1"]


# ---- Which client it is.


@pytest.mark.parametrize("make", [line, frame], ids=["v1", "v2"])
def test_limit_by_source_is_that_of_the_address_named(
    make: Callable[[str, int], bytes],
) -> None:
    with EchoServer() as server:
        limits = {"max_connections_per_source": 2, "workers": 2}
        with trusting(server.address, **limits) as proxy:
            with contextlib.ExitStack() as stack:
                for port in (1, 2):
                    client = stack.enter_context(proxy.connect(TRUSTED))
                    client.sendall(make("10.0.0.1", port) + b"x")
                    assert client.recv(1) == b"x"
                for port in range(3, 8):
                    assert not is_served(proxy, make("10.0.0.1", port))
                for host in range(2, 20):
                    assert is_served(proxy, make(f"10.0.0.{host}", 1))
            proxy.wait_idle()
            assert is_served(proxy, make("10.0.0.1", 1))
            assert proxy.stats.refused["limit_source_connections"] == 5


def test_rate_by_source_is_that_of_the_address_named() -> None:
    with EchoServer() as server:
        with trusting(server.address, max_new_per_s_per_source=2) as proxy:
            for host in range(1, 30):
                assert is_served(proxy, line(f"10.0.0.{host}", 1))
            assert set(proxy.drops) <= {"closed"}
            # Of so many from one source in one second or two, some are too many.
            served = [is_served(proxy, line("10.0.1.1", 1)) for _ in range(50)]
            assert not all(served)
            refused = served.count(False)
            wait_until(lambda: proxy.drops["limit_source_rate"] == refused)


@pytest.mark.parametrize("name", ["v1 unknown", "v2 local"])
def test_header_that_names_nobody_leaves_the_peer_as_source(name: str) -> None:
    # 2.1 and 2.2: health checks of the peer itself, or families it does not know.
    with EchoServer() as server:
        with trusting(server.address, max_connections_per_source=1) as proxy:
            with proxy.connect(TRUSTED) as client:
                client.sendall(HEADERS[name] + b"x")
                assert client.recv(1) == b"x"
                assert not is_served(proxy, HEADERS[name])
                assert not is_served(proxy, line(TRUSTED, 1))
                assert is_served(proxy, line("10.0.0.1", 1))


def test_ring_goes_by_the_address_named() -> None:
    sources = [f"10.0.0.{host}" for host in range(1, 40)]
    with saying(b"a") as a, saying(b"b") as b:
        both = (a.address, b.address)
        with trusting(*both, balance="ring", ring_key="source") as proxy:
            chosen: dict[str, bytes] = {}
            for source in sources:
                for port in (1, 2):
                    with proxy.connect(TRUSTED) as client:
                        client.sendall(line(source, port))
                        said = receive_all(client)
                    assert chosen.setdefault(source, said) == said
            assert set(chosen.values()) == {b"a", b"b"}
            # As if it had come by itself, with no balancer between.
            for host in range(5, 15):
                with proxy.connect(TRUSTED) as client:
                    client.sendall(frame(f"127.0.0.{host}", 1))
                    assert receive_all(client) == greet(proxy, f"127.0.0.{host}")
