"""What the tests of the engine share: an engine with one vip, and peers to talk.

Most tests hold both ends of a relay themselves (`Linked`), without threads: then
every step is in the test, in order. All sockets have timeouts, so that a relay that
forgets bytes fails a test instead of hanging it.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

from fastpath import Backend, BackendStats, Engine, Pool, Table, Vip, VipStats
from tests.support.servers import Address, receive_all
from tests.support.waiting import scaled, wait_until

PATIENCE_S = 10.0  # of a socket; far beyond what any step takes
LOOPBACK = "127.0.0.1"


def spec(where: tuple[str, int] | Backend) -> Backend:
    """A Backend for an address; one that is a Backend already is kept."""
    return where if isinstance(where, Backend) else Backend(*where)


class Proxy:
    """An engine with one vip on loopback; a context manager that closes it.

    `options` are those of Pool and of Vip; what neither knows goes to Engine.
    """

    def __init__(self, *backends: tuple[str, int] | Backend, **options: Any) -> None:
        options = {"host": LOOPBACK, "workers": 1, **options}
        pool = {k: options.pop(k) for k in set(options) & set(Pool.__slots__)}
        vip = {k: options.pop(k) for k in set(options) & set(Vip.__slots__)}
        self.vip = Vip(
            port=0,
            protocol="tcp",
            pool=Pool([spec(backend) for backend in backends], **pool),
            **vip,
        )
        self.engine = Engine(**options)
        try:
            self.engine.apply(Table([self.vip]))
            self.address = Address(*self.engine.address(self.vip))
        except BaseException:
            self.engine.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.engine.close()

    def connect(self, source: str = "") -> socket.socket:
        """A client, from any address of loopback."""
        return socket.create_connection(
            self.address, scaled(PATIENCE_S), (source, 0) if source else None
        )

    @property
    def stats(self) -> VipStats:
        """Counters of the vip."""
        return self.engine.stats().vips[self.vip.key]

    def backend(self, key: tuple[str, int]) -> BackendStats:
        """Counters of a backend."""
        return self.engine.stats().backends[key]

    @property
    def drops(self) -> dict[str, int]:
        """Reasons for which relays ended so far, closed and refused in one."""
        stats = self.stats
        return {
            reason: stats.closed[reason] + stats.refused[reason]
            for reason in stats.closed
            if stats.closed[reason] + stats.refused[reason]
        }

    def wait_drops(self, **expected: int) -> None:
        """Wait until relays have ended for exactly these reasons."""
        wait_until(
            lambda: sum(self.drops.values()) >= sum(expected.values()),
            what=f"{expected} of {self.drops}",
        )
        assert self.drops == expected

    def wait_idle(self, live: int = 0) -> None:
        """Wait until `live` relays are left."""

        def idle() -> bool:
            # One look: clients that still wait to be accepted may come between two.
            stats = self.engine.stats()
            return stats.relays_active == stats.vips[self.vip.key].active == live

        wait_until(idle, what="idle")

    def wait_accounted(self) -> None:
        """Wait until all accepted clients have ended, and are counted as ended.

        One that is handed from worker to worker is not active anywhere for a moment.
        """
        wait_until(
            lambda: sum(self.drops.values()) == self.engine.stats().relays_total,
            what=f"accounts of {self.drops}",
        )
        self.wait_idle()

    @property
    def held(self) -> tuple[int, int]:
        """Spills held now, and pipes open (in use or not), by all workers."""
        workers = self.engine.stats().workers
        return sum(w.spills for w in workers), sum(w.pipes for w in workers)


class Listening:
    """A backend that the test itself accepts for."""

    def __init__(self, host: str = LOOPBACK, backlog: int = 128) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.create_server((host, 0), family=family, backlog=backlog)
        self.socket.settimeout(scaled(PATIENCE_S))
        self.address = Address(*self.socket.getsockname()[:2])

    def accept(self) -> socket.socket:
        """The next connection."""
        connection, _ = self.socket.accept()
        connection.settimeout(scaled(PATIENCE_S))
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()


class Link(NamedTuple):
    """Both ends of a relay."""

    proxy: Proxy
    client: socket.socket
    server: socket.socket


@contextlib.contextmanager
def linked(**options: Any) -> Iterator[Link]:
    """A proxy, and one relay of it whose ends are both ours."""
    with Listening() as backend, Proxy(backend.address, **options) as proxy:
        with proxy.connect() as client, backend.accept() as server:
            yield Link(proxy, client, server)


@contextlib.contextmanager
def refusing() -> Iterator[Address]:
    """An address that answers a connect with RST, and keeps doing so."""
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        yield Address(*bound.getsockname())


@contextlib.contextmanager
def blackhole() -> Iterator[Address]:
    """An address that answers no SYN: its accept queue is full for good.

    Source: listen(2) and tcp_abort_on_overflow = 0, which is the default.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        while True:
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            if tcp_state(filler) == TCP_SYN_SENT:
                break
        yield Address(*listener.getsockname())


TCP_SYN_SENT = 2


def tcp_state(connection: socket.socket) -> int:
    """State of a connection: the first byte of tcp_info (linux/tcp.h)."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def own_socket(
    local: tuple[Any, ...] | None = None, peer: tuple[Any, ...] | None = None
) -> socket.socket:
    """A duplicate of the engine's socket with these addresses; it is in our process."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            found = socket.socket(fileno=os.dup(fd))
            with contextlib.suppress(OSError):
                names = (found.getsockname(), found.getpeername())
                if names == (local or names[0], peer or names[1]):
                    return found
            found.close()
    raise AssertionError(f"no socket from {local} to {peer}")


def relay_sockets(link: Link) -> tuple[socket.socket, socket.socket]:
    """Duplicates of the relay's own two sockets: to the client, to the backend."""
    down = own_socket(link.client.getpeername(), link.client.getsockname())
    try:
        return down, own_socket(link.server.getpeername(), link.server.getsockname())
    except BaseException:
        down.close()
        raise


def wait_for(read: Callable[[], int], least: int) -> None:
    """Wait until a count has come so far."""
    wait_until(lambda: read() >= least, what=f"{least}, now {read()}")


def fill(sender: socket.socket, most: int = 1 << 30) -> int:
    """Send until nobody takes more; return how much went in.

    Ends when nothing moved for a while: back-pressure has reached the sender.
    """
    chunk = bytes(1 << 16)
    sent = 0
    sender.settimeout(scaled(0.2))
    with contextlib.suppress(TimeoutError):
        while sent < most:
            sent += sender.send(chunk)
    sender.settimeout(scaled(PATIENCE_S))
    return sent


def greet(proxy: Proxy, source: str = "") -> bytes:
    """What the backend says to a new client before it ends the connection."""
    with proxy.connect(source) as client:
        said = bytearray()
        while chunk := client.recv(100):
            said += chunk
        return bytes(said)


def ends_in_reset(connection: socket.socket) -> bool:
    """Whether an RST and no FIN comes behind the last byte."""
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionResetError:
        return True
    return False


def meets_reset(proxy: Proxy, source: str = "", says: bytes = b"") -> bool:
    """Whether a client that connects is reset, as opposed to served or closed."""
    try:
        with proxy.connect(source) as client:  # may meet the reset already
            if says:
                client.sendall(says)
            client.recv(1)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def echoes(address: tuple[str, int], message: bytes = b"hello") -> bool:
    """Whether somebody echoes at `address`."""
    with socket.create_connection(address, 10) as client:
        client.sendall(message)
        client.shutdown(socket.SHUT_WR)
        return receive_all(client) == message
