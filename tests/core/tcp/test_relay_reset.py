"""A reset on one side is a reset on the other, never an EOF, and is counted as one.

What was said before it still arrives where the peer has room for it: the receiving
kernel hands out its queue before it reports the reset (Linux, tcp_recvmsg).
Source: RFC 9293 3.5.3; the correctness contract of the relay, "RST from A".
"""

import array
import fcntl
import socket
import threading

import pytest

from tests.support.relay_tools import Link, Listening, Proxy, fill, linked
from tests.support.servers import receive_all, receive_exactly, send_reset
from tests.support.waiting import wait_until

pytestmark = pytest.mark.live

BY = {"client": "reset_by_client", "server": "reset_by_backend"}


def ends(link: Link, breaker: str) -> tuple[socket.socket, socket.socket]:
    """Which side sends the RST, and which sees it."""
    if breaker == "client":
        return link.client, link.server
    return link.server, link.client


def receive_until_reset(connection: socket.socket) -> bytes:
    """Everything before the RST. An EOF instead fails the test."""
    received = bytearray()
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        return bytes(received)
    raise AssertionError(f"EOF instead of a reset, after {len(received)} bytes")


def flowing(link: Link) -> None:
    """Wait until the relay knows that its backend has answered."""
    wait_until(lambda: link.proxy.backend(link.server.getsockname()).connects == 1)


@pytest.mark.parametrize("breaker", BY)
def test_reset_of_a_quiet_relay_arrives_as_reset(breaker: str) -> None:
    with linked() as link:
        one, other = ends(link, breaker)
        flowing(link)
        send_reset(one)
        assert receive_until_reset(other) == b""
        link.proxy.wait_drops(**{BY[breaker]: 1})


# All of them fit into what a socket takes before anybody reads.
@pytest.mark.parametrize("size", [1, 1000, 20_000, 60_000])
@pytest.mark.parametrize("breaker", BY)
def test_reset_right_after_data_arrives_behind_the_data(
    breaker: str, size: int
) -> None:
    with linked() as link:
        one, other = ends(link, breaker)
        flowing(link)
        one.sendall(b"z" * size)
        # An RST throws away what the sender's kernel has not sent yet: let it go.
        wait_until(lambda: unsent(one) == 0)
        send_reset(one)
        wait_until(lambda: link.proxy.drops, what="drop")
        assert receive_until_reset(other) == b"z" * size
        link.proxy.wait_drops(**{BY[breaker]: 1})


def unsent(connection: socket.socket) -> int:
    """Bytes in the send queue, sent and unacknowledged ones included (SIOCOUTQ)."""
    queued = array.array("i", [0])
    fcntl.ioctl(connection, 0x5411, queued)
    return queued[0]


@pytest.mark.parametrize("breaker", BY)
def test_reset_right_behind_a_fin_does_not_undo_the_fin(breaker: str) -> None:
    # Half-closed, then closed with something unread: Linux gives a reader what was
    # sent and an EOF, because SOCK_DONE comes before the error.
    for _ in range(30):
        with linked() as link:
            one, other = ends(link, breaker)
            other.sendall(b"unread")
            one.recv(1, socket.MSG_PEEK)
            one.sendall(b"whole")
            one.shutdown(socket.SHUT_WR)
            one.close()
            assert receive_all(other) == b"whole"
            link.proxy.wait_idle()


def test_server_that_speaks_and_resets_at_once_is_heard() -> None:
    # Symptom: with the reset there before the relay had seen the connect succeed it
    # was a failed dial, and what the server had said was lost.
    with Listening() as backend, Proxy(backend.address, eject_after=0) as proxy:
        for _ in range(200):
            with proxy.connect() as client:
                server = backend.accept()
                server.sendall(b"go away")
                send_reset(server)
                assert receive_until_reset(client) == b"go away"
        proxy.wait_drops(reset_by_backend=200)


@pytest.mark.parametrize("breaker", BY)
def test_reset_with_the_other_side_stalled_drops_what_waits(breaker: str) -> None:
    # Nobody takes the residue: it must not hold up the reset, nor stay with us.
    with linked() as link:
        one, other = ends(link, breaker)
        sent = fill(one)
        send_reset(one)
        link.proxy.wait_drops(**{BY[breaker]: 1})
        assert len(receive_until_reset(other)) < sent
        assert link.proxy.held[0] == 0


@pytest.mark.parametrize("breaker", BY)
def test_reset_by_the_stalled_side_reaches_the_writer(breaker: str) -> None:
    with linked() as link:
        one, other = ends(link, breaker)
        fill(other)
        send_reset(one)
        Writer(other).join()
        link.proxy.wait_drops(**{BY[breaker]: 1})


@pytest.mark.parametrize("breaker", BY)
def test_reset_after_a_half_close_is_a_reset_to_the_other_side(breaker: str) -> None:
    with linked() as link:
        one, other = ends(link, breaker)
        other.shutdown(socket.SHUT_WR)
        assert one.recv(1) == b""
        send_reset(one)
        assert receive_until_reset(other) == b""
        link.proxy.wait_drops(**{BY[breaker]: 1})


def test_close_with_unread_data_is_a_reset_for_the_client_too() -> None:
    # A server that closes without reading sends RST (RFC 2525 2.17).
    with linked() as link:
        link.client.sendall(b"unread")
        wait_until(lambda: link.server.recv(1, socket.MSG_PEEK))
        link.server.close()
        assert receive_until_reset(link.client) == b""
        link.proxy.wait_drops(reset_by_backend=1)


def test_early_answer_before_a_reset_reaches_a_client_that_still_writes() -> None:
    # HTTP servers answer 413 and close while the request comes in. The relay meets the
    # reset in its own write as often as in an event; the answer counts in both cases.
    answer = b"413 " * 100
    for _ in range(30):
        with linked() as link:
            writer = Writer(link.client)
            receive_exactly(link.server, 300_000)
            link.server.sendall(answer)
            link.server.close()
            writer.join()
            received = bytearray()
            try:
                while chunk := link.client.recv(65536):
                    received += chunk
            except ConnectionResetError:
                pass
            assert bytes(received) == answer


class Writer(threading.Thread):
    """Writes until that is an error."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(name="writer")
        self.connection = connection
        self.start()

    def run(self) -> None:
        """Write."""
        try:
            while True:
                self.connection.sendall(b"r" * 1000)
        except OSError:
            pass


def test_client_reset_while_the_backend_speaks_stops_the_backend() -> None:
    with linked() as link:
        writer = Writer(link.server)
        receive_exactly(link.client, 1_000_000)
        send_reset(link.client)
        writer.join()
        link.proxy.wait_drops(reset_by_client=1)


def test_reset_of_one_relay_leaves_its_neighbours_alone() -> None:
    with Listening() as backend, Proxy(backend.address) as proxy:
        links = []
        for _ in range(20):
            client = proxy.connect()
            links.append((client, backend.accept()))
        for client, server in links[::2]:
            send_reset(client)
            assert receive_until_reset(server) == b""
            server.close()
        for client, server in links[1::2]:
            client.sendall(b"still here")
            assert server.recv(100) == b"still here"
            client.shutdown(socket.SHUT_WR)
            assert receive_all(server) == b""
            client.close()
            server.close()
        proxy.wait_drops(reset_by_client=10, closed=10)
