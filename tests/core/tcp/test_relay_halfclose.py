"""A FIN ends one direction, after the last byte, and leaves the other one open.

Source: RFC 9293 3.6; the correctness contract of the relay, "FIN from A".
"""

import socket

import pytest

from tests.support.relay_tools import Link, Listening, Proxy, fill, linked
from tests.support.servers import receive_all, receive_exactly
from tests.support.waiting import wait_until

pytestmark = pytest.mark.live

SIZES = [1, 511, 65536, 65537, 1_000_000]


def ends(link: Link, closer: str) -> tuple[socket.socket, socket.socket]:
    """Which side sends the FIN, and which sees it."""
    if closer == "client":
        return link.client, link.server
    return link.server, link.client


@pytest.mark.parametrize("closer", ["client", "server"])
def test_half_close_before_any_byte_leaves_the_other_direction_open(
    closer: str,
) -> None:
    with linked() as link:
        one, other = ends(link, closer)
        one.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        for size in SIZES:  # and it stays open, whatever comes
            other.sendall(b"x" * size)
            assert receive_exactly(one, size) == b"x" * size
        other.shutdown(socket.SHUT_WR)
        assert one.recv(1) == b""
        link.proxy.wait_drops(closed=1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("closer", ["client", "server"])
def test_half_close_right_after_data_delivers_the_data_first(
    closer: str, size: int
) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    with linked() as link:
        one, other = ends(link, closer)
        one.setblocking(False)
        sent = 0
        received = bytearray()
        other.settimeout(0)
        # Both ends by turns in one thread: the FIN follows the last byte at once.
        while len(received) < size:
            if sent < size:
                try:
                    sent += one.send(data[sent:size])
                except BlockingIOError:
                    pass
                else:
                    if sent == size:
                        one.shutdown(socket.SHUT_WR)
            try:
                chunk = other.recv(65536)
            except BlockingIOError:
                continue
            assert chunk, "FIN before the last byte"
            received += chunk
        other.settimeout(10)
        assert other.recv(1) == b""
        assert bytes(received) == data[:size]
        other.sendall(b"and back")
        one.settimeout(10)
        assert one.recv(100) == b"and back"


@pytest.mark.parametrize("splice", [True, False], ids=["splice", "copy"])
@pytest.mark.parametrize("closer", ["client", "server"])
def test_half_close_behind_a_stalled_peer_arrives_after_all_that_was_queued(
    closer: str, splice: bool
) -> None:
    # The residue in pipe or spill goes before the FIN.
    with linked(splice=splice) as link:
        one, other = ends(link, closer)
        sent = fill(one)
        one.shutdown(socket.SHUT_WR)
        other.sendall(b"meanwhile")
        assert one.recv(100) == b"meanwhile"
        assert len(receive_all(other)) == sent
        other.sendall(b"still open")
        assert one.recv(100) == b"still open"


def test_half_close_of_both_ends_at_once_ends_the_relay() -> None:
    with linked() as link:
        link.client.sendall(b"a" * 100_000)
        link.server.sendall(b"b" * 100_000)
        link.client.shutdown(socket.SHUT_WR)
        link.server.shutdown(socket.SHUT_WR)
        assert receive_all(link.server) == b"a" * 100_000
        assert receive_all(link.client) == b"b" * 100_000
        link.proxy.wait_drops(closed=1)


def test_request_with_fin_before_accept_is_answered() -> None:
    # Request and FIN are there before the relay is: one read finds both.
    with Listening() as backend, Proxy(backend.address) as proxy:
        for _ in range(50):
            with proxy.connect() as client:
                client.sendall(b"request")
                client.shutdown(socket.SHUT_WR)
                with backend.accept() as server:
                    assert receive_all(server) == b"request"
                    server.sendall(b"answer")
                assert receive_all(client) == b"answer"
        proxy.wait_drops(closed=50)


def test_fin_alone_before_accept_reaches_the_backend_as_fin() -> None:
    with Listening() as backend, Proxy(backend.address) as proxy:
        for _ in range(50):
            with proxy.connect() as client:
                client.shutdown(socket.SHUT_WR)
                with backend.accept() as server:
                    assert server.recv(1) == b""
                    server.sendall(b"late")
                assert receive_all(client) == b"late"
        proxy.wait_drops(closed=50)


def test_server_that_speaks_and_closes_at_once_is_heard_in_full() -> None:
    with Listening() as backend, Proxy(backend.address) as proxy:
        for _ in range(50):
            with proxy.connect() as client:
                with backend.accept() as server:
                    server.sendall(b"banner" * 1000)
                assert receive_all(client) == b"banner" * 1000
        proxy.wait_drops(closed=50)


def test_full_close_of_the_client_is_a_half_close_to_the_server() -> None:
    # close(2) with nothing unread sends a FIN: the server may still write, and only
    # that meets a reset (RFC 9293 3.10.7.1: data for a closed connection).
    with linked() as link:
        link.client.close()
        assert link.server.recv(1) == b""
        link.server.sendall(b"into the void")
        link.proxy.wait_drops(reset_by_client=1)
        # The kernel returns EPIPE, not ECONNRESET, after a FIN before the RST.
        with pytest.raises(BrokenPipeError):
            link.server.send(b"once more")


def test_half_open_relay_holds_no_buffer_and_turns_no_loop() -> None:
    with linked() as link:
        link.client.sendall(b"x" * 1_000_000)
        link.client.shutdown(socket.SHUT_WR)
        assert len(receive_all(link.server)) == 1_000_000
        wait_until(lambda: link.proxy.held[0] == 0)
        engine = link.proxy.engine
        before = engine.stats().workers[0].turns
        link.server.sendall(b"y")
        assert link.client.recv(10) == b"y"
        # An event loop that spins on the FIN it has seen would turn by the thousand.
        assert engine.stats().workers[0].turns - before < 50
