"""Backends for relay tests: real sockets on loopback, one thread per connection.

`with EchoServer() as server:` listens on a free port and, at the end, closes every
socket and joins every thread, so that a leak found after it is the relay's.
Deliberately made of blocking sockets only: they are the oracle.
"""

import abc
import contextlib
import functools
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from loadtests.process import free_port as free_port
from tests.support.waiting import scaled

CHUNK = 65536
# Beyond any healthy pause of a test: a thread stuck in recv ends by itself.
SILENCE_S = 30.0


class Address(NamedTuple):
    """Where a server listens; compares equal to the key of its Backend."""

    host: str
    port: int


@functools.cache
def has_ipv6() -> bool:
    """Whether the loopback has its IPv6 address."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def send_reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN (socket(7), SO_LINGER with 0 s)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    """Read `size` bytes, fewer only at EOF."""
    parts = bytearray()
    while len(parts) < size:
        chunk = connection.recv(min(CHUNK, size - len(parts)))
        if not chunk:
            break
        parts += chunk
    return bytes(parts)


def receive_all(connection: socket.socket) -> bytes:
    """Read until EOF."""
    parts = bytearray()
    while chunk := connection.recv(CHUNK):
        parts += chunk
    return bytes(parts)


class Server(abc.ABC):
    """Listens, and calls `serve` in a thread of its own for each connection."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A zone becomes a number.
        self._listener.bind(socket.getaddrinfo(host, port, family)[0][4])
        self._listener.listen(1024)
        bound = self._listener.getsockname()
        self.address = Address(bound[0], bound[1])
        self._lock = threading.Lock()
        self._live: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, name="accept")]
        self.accepted = 0  # connections so far; written by the accepting thread
        self.failures: list[Exception] = []  # what `serve` raised, not socket errors

    @abc.abstractmethod
    def serve(self, connection: socket.socket) -> None:
        """Talk to one client. The server closes the socket afterwards."""

    @property
    def live(self) -> int:
        """Connections open now."""
        with self._lock:
            return len(self._live)

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        if error is None and self.failures:
            raise self.failures[0]

    def close(self) -> None:
        """Stop listening, end every connection, join every thread."""
        # shutdown wakes accept and recv, which close alone would leave asleep.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(scaled(SILENCE_S))
        self._listener.close()
        self.drop_all()
        for thread in self._threads[1:]:
            thread.join(scaled(SILENCE_S))

    def drop_all(self) -> None:
        """End every live connection with what TCP makes of it, FIN or RST."""
        with self._lock:
            for connection in self._live:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            connection.settimeout(scaled(SILENCE_S))
            thread = threading.Thread(
                target=self._run, args=(connection,), name="serve"
            )
            with self._lock:
                self._live.add(connection)
                self._threads.append(thread)
                self.accepted += 1
            thread.start()

    def _run(self, connection: socket.socket) -> None:
        try:
            self.serve(connection)
        except OSError:
            pass  # clients that go away are the subject of the tests
        except Exception as error:
            self.failures.append(error)
        finally:
            with self._lock:
                self._live.discard(connection)
            connection.close()


class EchoServer(Server):
    """Sends back what it reads, and half-closes when the client does."""

    def serve(self, connection: socket.socket) -> None:
        """Echo until EOF."""
        while chunk := connection.recv(CHUNK):
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)


class ScriptedServer(Server):
    """Runs `script(connection)`: how a test says what the backend does."""

    def __init__(
        self,
        script: Callable[[socket.socket], None],
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host, port)
        self._script = script

    def serve(self, connection: socket.socket) -> None:
        """Follow the script."""
        self._script(connection)
