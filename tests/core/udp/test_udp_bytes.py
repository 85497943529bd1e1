"""Datagrams arrive as they were sent: bytes, boundaries and order, in trains or not."""

import random
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.udp_tools import (
    LARGEST,
    LARGEST_IPV6,
    Client,
    UdpProxy,
    UdpServer,
    bound,
)
from tests.support.waiting import scaled, wait_until

Both = tuple[Client, Client]

HOSTS = ["127.0.0.1", "::1"]
SIZES = st.one_of(
    st.integers(0, 3),
    st.sampled_from([64, 576, 1199, 1200, 1201, 1472, 1500, 4096]),
    st.integers(0, 9000),
    st.sampled_from([LARGEST - 1, LARGEST]),
)


def content(number: int, size: int) -> bytes:
    """Bytes of a datagram, that no other has."""
    return random.Random(number).randbytes(size)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("workers", [1, 2])
def test_sizes_up_to_the_largest_pass_both_ways(host: str, workers: int) -> None:
    largest = LARGEST if host == "127.0.0.1" else LARGEST_IPV6
    with UdpServer(host=host) as server:
        with UdpProxy(server.address, host=host, workers=workers) as proxy:
            with proxy.client() as client:
                for number, size in enumerate((1, 0, 100, 1472, 8000, largest, 0, 5)):
                    sent = content(number, size)
                    assert client.ask(sent) == sent
                assert proxy.dropped == {}
                assert proxy.udp.datagrams_up == proxy.udp.datagrams_down == 8
                assert proxy.stats.bytes_up == sum(len(data) for _, data in server.came)


def seen_by(backend: socket.socket, client: Client) -> Client:
    """Open a flow; return the backend as a sender to it."""
    client.send(b"first")
    _, upstream = backend.recvfrom(100)
    peer = Client(upstream, connect=False)
    peer.close()
    peer.socket = backend
    return peer


def pieces(sizes: list[int]) -> list[list[int]]:
    """Sizes as a sender with trains would group them: equal ones, a shorter last."""
    grouped: list[list[int]] = []
    for size in sizes:
        last = grouped[-1] if grouped else []
        fits = last and 0 < size <= last[0] == last[-1] and len(last) < 60
        if fits and sum(last) + size <= 60_000:
            last.append(size)
        else:
            grouped.append([size])
    return grouped


@pytest.mark.parametrize("trains", [False, True])
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sizes=st.lists(SIZES, min_size=1, max_size=40), repeats=st.integers(1, 30))
def test_boundaries_and_order_are_kept_both_ways(
    both: Both,
    trains: bool,
    sizes: list[int],
    repeats: int,
) -> None:
    client, peer = both
    backend = peer.socket
    sizes = [*sizes, *[sizes[0] % 1400] * repeats]
    datagrams = [content(number, size) for number, size in enumerate(sizes)]
    for sender, receiver in ((client, backend), (peer, client.socket)):
        at = 0
        for group in pieces(sizes):
            mine = datagrams[at : at + len(group)]
            if trains and len(group) > 1:
                sender.send_train(mine)
            else:
                for each in mine:
                    sender.send(each)
            for each in mine:
                assert receiver.recv(70_000) == each
            at += len(group)


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    """A client, and its backend, which sends to the flow."""
    with bound("127.0.0.1") as backend:
        with UdpProxy(backend.getsockname()) as proxy, proxy.client() as client:
            yield client, seen_by(backend, client)


def test_trains_go_through_as_trains() -> None:
    backend = bound("127.0.0.1")
    backend.setsockopt(17, 104, 1)  # UDP_GRO: one receive for each train
    with UdpProxy(backend.getsockname()) as proxy, proxy.client() as client:
        peer = seen_by(backend, client)
        sent = [content(number, 1200) for number in range(40)] + [b"short"]
        client.send_train(sent)
        assert backend.recv(70_000) == b"".join(sent)
        assert (proxy.udp.trains_received, proxy.udp.trains_sent) == (1, 1)
        assert proxy.udp.datagrams_up == 42
        for _ in range(3):  # the first shows that trains come; then they are asked for
            peer.send_train(sent)
            for each in sent:
                assert client.receive() == each
        assert proxy.udp.trains_received > 1
        assert proxy.udp.datagrams_down == 3 * 41
        assert proxy.dropped == {}
    backend.close()


def test_many_clients_get_their_own_answers_in_order() -> None:
    with UdpServer() as server, UdpProxy(server.address, workers=2) as proxy:
        clients = [proxy.client() for _ in range(200)]
        for turn in range(5):
            for number, client in enumerate(clients):
                client.send(b"%d:%d:a" % (number, turn))
                client.send(b"%d:%d:b" % (number, turn))
        for turn in range(5):
            for number, client in enumerate(clients):
                assert client.receive() == b"%d:%d:a" % (number, turn)
                assert client.receive() == b"%d:%d:b" % (number, turn)
        assert proxy.all_stats.flows_active == proxy.stats.accepted == 200
        assert proxy.active(server.address) == 200
        assert len({sender for sender, _ in server.came}) == 200
        for client in clients:
            client.close()
        assert proxy.dropped == {}


def test_a_stream_of_datagrams_keeps_its_order_under_load() -> None:
    backend = bound("127.0.0.1")
    count = 4000
    with UdpProxy(backend.getsockname()) as proxy, proxy.client() as client:

        def send() -> None:
            for number in range(count):
                client.send(b"%06d" % number + b"x" * (number % 700))
                if number % 50 == 0:
                    window.acquire(timeout=scaled(5))

        window = threading.Semaphore(3)
        sender = threading.Thread(target=send)
        sender.start()
        for number in range(count):
            data = backend.recv(2000)
            assert data == b"%06d" % number + b"x" * (number % 700)
            if number % 50 == 0:
                window.release()
        sender.join()
        wait_until(lambda: proxy.udp.datagrams_up == count)
        assert proxy.dropped == {}
    backend.close()
