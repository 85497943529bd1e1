"""New clients among many busy ones. Issue 11, item 29."""

import contextlib
import os
import select
import signal
import socket

import pytest

from tests.support.engine_process import EngineProcess
from tests.support.waiting import scaled

pytestmark = [pytest.mark.live, pytest.mark.slow]

BUSY = 1200
NEW = 150


def connected(to: tuple[str, int], count: int) -> list[socket.socket]:
    """So many clients."""
    return [socket.create_connection(to, scaled(5)) for _ in range(count)]


class Order:
    """A backend that notes in which order single bytes come."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=2000)
        self.listener.setblocking(False)
        self.peers = {self.listener.fileno(): self.listener}
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)

    def hear(self, count: int) -> bytes:
        """Read until so many bytes have come."""
        heard = b""
        while len(heard) < count:
            # A few at a time: what has just been accepted has its turn soon.
            events = self.epoll.poll(scaled(5), 4)
            assert events, f"{len(heard)} of {count} came"
            for number, _ in events:
                if number == self.listener.fileno():
                    self._accept()
                else:
                    heard += self.peers[number].recv(1)
        return heard

    def _accept(self) -> None:
        # All of them: a listener that is looked at again is the last in line.
        with contextlib.suppress(BlockingIOError):
            while True:
                peer, _ = self.listener.accept()
                self.peers[peer.fileno()] = peer
                self.epoll.register(peer, select.EPOLLIN)

    def close(self) -> None:
        """Close all of it."""
        self.epoll.close()
        for peer in self.peers.values():
            peer.close()


def test_new_clients_are_let_in_amid_the_events_of_busy_ones() -> None:
    # One look at the listener a turn of 256 events, for 16 clients at most: the last of
    # 150 came behind 1,200 busy ones. All wait while the process is stopped.
    order = Order()
    with EngineProcess(order.listener.getsockname(), workers=1) as engine:
        busy = connected(engine.address, BUSY)
        for client in busy:
            client.sendall(b"b")
        assert order.hear(BUSY) == b"b" * BUSY
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            new = connected(engine.address, NEW)
            for client in [*new, *busy]:
                client.sendall(b"n" if client in new[-1:] else b"b")
        finally:
            os.kill(engine.pid, signal.SIGCONT)
        heard = order.hear(BUSY + NEW)
        assert heard.index(b"n") < BUSY
        for client in [*busy, *new]:
            client.close()
    order.close()
