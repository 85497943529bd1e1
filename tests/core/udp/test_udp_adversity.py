"""Descriptors, memory or buffers run out: what is lost is counted, the rest goes on."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.support.engine_process import SANITIZED, EngineProcess
from tests.support.leaks import Holdings, leaked_since
from tests.support.udp_tools import Client, UdpProxy, UdpServer, named
from tests.support.waiting import wait_until

pytestmark = pytest.mark.adversity

NOFILE = 64


@contextlib.contextmanager
def clients_of(engine: EngineProcess, count: int) -> Iterator[list[Client]]:
    """Clients that have not said anything yet."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Client(engine.address)) for _ in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_datagrams_without_a_descriptor_are_lost_and_the_rest_is_served(
    workers: int,
) -> None:
    options = {"protocol": "udp", "nofile": NOFILE, "workers": workers}
    options |= {"flows_most": 1000, "udp_two_way_s": 3.0}
    with named("a") as server, EngineProcess(server.address, **options) as engine:
        with clients_of(engine, 80) as clients:
            for client in clients:
                client.send(b"?")
            wait_until(lambda: engine.lost.get("no_descriptors", 0) > 0)
            wait_until(
                lambda: engine.flows + engine.lost.get("no_descriptors", 0) == 80
            )
            served = [client for client in clients if answered(client)]
            assert 10 <= len(served) == engine.flows <= NOFILE
            for client in served:
                assert client.ask() == b"a"
            wait_until(lambda: engine.flows == 0, 10)
            assert [client.ask() for client in clients[:10]] == 10 * [b"a"]
            assert set(engine.lost) == {"no_descriptors"}


def answered(client: Client) -> bool:
    """Whether an answer waits."""
    client.socket.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        return client.receive() == b"a"
    return False


def test_bound_of_flows_leaves_descriptors_to_others() -> None:
    options = {"protocol": "udp", "nofile": NOFILE, "flows_most": 20}
    with named("a") as server, EngineProcess(server.address, **options) as engine:
        with clients_of(engine, 80) as clients:
            for client in clients:
                assert client.ask() == b"a"
            assert engine.flows == 20
            assert engine.lost == {}
            assert engine.drops == {"evicted": 60}


@pytest.mark.skipif(SANITIZED, reason="the sanitizer keeps memory that was freed")
def test_datagrams_without_memory_for_a_flow_are_lost_and_the_rest_is_served() -> None:
    # A flow takes some 500 bytes, of which there are 128 KiB.
    options = {"protocol": "udp", "data_bytes": 1 << 17}
    with named("a") as server, EngineProcess(server.address, **options) as engine:
        with clients_of(engine, 1500) as clients:
            for client in clients:
                client.send(b"?")
            wait_until(lambda: engine.lost.get("no_memory", 0) > 0)
            wait_until(lambda: engine.flows + engine.lost["no_memory"] == 1500)
            assert engine.flows > 50
            assert clients[0].receive() == b"a"
            assert clients[0].ask() == b"a"
            assert set(engine.lost) == {"no_memory"}


def test_datagrams_that_a_receive_buffer_loses_are_counted() -> None:
    # The backend sends more than the flow's socket holds before the first is read; the
    # flow's end tells how many were lost.
    before = 4000
    with UdpServer(lambda _: None) as server:
        with UdpProxy(server.address) as proxy, proxy.client() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
            client.send(b"?")
            wait_until(lambda: server.came)
            upstream = server.came[0][0]
            for _ in range(before):
                server.socket.sendto(b"x" * 1400, upstream)
            wait_until(lambda: quiet(proxy))
            proxy.engine.reset()
            proxy.wait_flows(0)
            lost = proxy.dropped.get("overflow", 0)
            assert proxy.udp.datagrams_down + lost == before


def quiet(proxy: UdpProxy) -> bool:
    """Whether nothing came in a while."""
    seen = proxy.udp.datagrams_down
    with contextlib.suppress(AssertionError):
        wait_until(lambda: proxy.udp.datagrams_down != seen, 0.3)
    return seen == proxy.udp.datagrams_down


def test_flows_of_every_end_leave_no_descriptor() -> None:
    before = Holdings.now()
    with named("a") as server:
        proxy = UdpProxy(server.address, workers=2, udp_two_way_s=0.3)
        with proxy:
            for _ in range(3):
                clients = [proxy.client() for _ in range(50)]
                assert [client.ask() for client in clients] == 50 * [b"a"]
                for client in clients:
                    client.close()
            proxy.wait_flows(0)
            clients = [proxy.client() for _ in range(50)]
            assert [client.ask() for client in clients] == 50 * [b"a"]
            for client in clients:
                client.close()
    assert not leaked_since(before)


def test_an_engine_without_udp_has_no_room_for_it() -> None:
    with EngineProcess(("127.0.0.1", 9)) as tcp:
        plain = tcp.anonymous_bytes
    with EngineProcess(("127.0.0.1", 9), protocol="udp") as udp:
        with clients_of(udp, 1) as (client,):
            client.send(b"?")
            assert udp.anonymous_bytes - plain < 1 << 20, "touched where datagrams lie"
