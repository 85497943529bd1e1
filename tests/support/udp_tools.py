"""Peers of a UDP flow: servers that answer by a function, clients, an engine."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from fastpath import Backend, Engine, Pool, Stats, Table, Vip, VipStats
from fastpath.api.snapshot import UdpStats
from tests.support.waiting import scaled, wait_until

Key = tuple[str, int]
Answer = Callable[[bytes], bytes | None]

SOL_UDP = 17
UDP_SEGMENT = 103
LARGEST = 65_507
LARGEST_IPV6 = 65_527
ROOM_BYTES = 8 << 20


def family_of(host: str) -> socket.AddressFamily:
    """Return the family of an IP literal."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bound(host: str, port: int = 0) -> socket.socket:
    """Return a socket for datagrams, with room for many, that waits with patience."""
    made = socket.socket(family_of(host), socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM_BYTES)
    made.settimeout(scaled(5))
    made.bind((host, port))
    return made


class UdpServer:
    """Answers each datagram, in a thread; None = no answer. Notes what came."""

    def __init__(
        self, answer: Answer = lambda data: data, host: str = "127.0.0.1"
    ) -> None:
        self.socket = bound(host)
        self.address: Key = self.socket.getsockname()[:2]
        self.came: list[tuple[Key, bytes]] = []  # from whom, what
        self._answer = answer
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.socket.settimeout(None)
        while True:
            try:
                data, sender = self.socket.recvfrom(70_000)
            except OSError:
                return
            if sender[:2] == self.address:
                return  # our own word to stop
            self.came.append((sender[:2], data))
            said = self._answer(data)
            if said is not None:
                with contextlib.suppress(OSError):
                    self.socket.sendto(said, sender)

    def close(self) -> None:
        """End; its port is closed then."""
        if self.socket.fileno() != -1:
            self.socket.sendto(b"", self.address)
            self._thread.join()
            self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def named(name: str, host: str = "127.0.0.1") -> UdpServer:
    """Return a server that answers with its name."""
    return UdpServer(lambda _: name.encode(), host)


class Client:
    """A client of one address."""

    def __init__(self, address: Key, source: str = "", connect: bool = True) -> None:
        wildcard = "::" if ":" in address[0] else "0.0.0.0"
        self.socket = bound(source or wildcard)
        self.address = address
        if connect:
            self.socket.connect(address)

    def send(self, data: bytes) -> None:
        """Send one datagram."""
        self.socket.sendto(data, self.address)

    def send_train(self, datagrams: list[bytes]) -> None:
        """Send datagrams of one size, and perhaps a shorter last one, as one piece."""
        segment = struct.pack("=H", len(datagrams[0]))
        control = [(SOL_UDP, UDP_SEGMENT, segment)]
        self.socket.sendmsg([b"".join(datagrams)], control, 0, self.address)

    def receive(self) -> bytes:
        """Return the next datagram, or raise TimeoutError."""
        return self.socket.recv(70_000)

    def ask(self, data: bytes = b"?") -> bytes:
        """Send one and return the next."""
        self.send(data)
        return self.receive()

    def hears_nothing(self, data: bytes = b"?", within_s: float = 0.3) -> bool:
        """Send one and return whether nothing comes back, or the port is closed."""
        self.socket.settimeout(scaled(within_s))
        try:
            self.ask(data)
        except (TimeoutError, ConnectionRefusedError):
            return True
        finally:
            self.socket.settimeout(scaled(5))
        return False

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class UdpProxy:
    """An engine with one vip of UDP."""

    def __init__(
        self,
        *backends: Key,
        host: str = "127.0.0.1",
        workers: int = 1,
        pool: dict[str, Any] | None = None,
        engine: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.engine = Engine(workers, **(engine or {}))
        self._host, self._pool, self._options = host, pool or {}, options
        self.vip = self.made_of(*backends)
        try:
            self.engine.apply(Table([self.vip]))
        except BaseException:
            self.engine.close()
            raise
        self.address: Key = self.engine.address(self.vip)

    def made_of(self, *backends: Key) -> Vip:
        """Return the vip with other backends."""
        pool = Pool([Backend(*one) for one in backends], **self._pool)
        return Vip(self._host, 0, "udp", pool, **self._options)

    def serve(self, *backends: Key) -> None:
        """Have other backends from now on."""
        self.engine.apply(Table([self.made_of(*backends)]), wait_s=scaled(5))

    def client(self, source: str = "") -> Client:
        """Return a new client."""
        return Client(self.address, source)

    @property
    def all_stats(self) -> Stats:
        """All counters."""
        return self.engine.stats()

    @property
    def stats(self) -> VipStats:
        """Counters of the vip."""
        return self.all_stats.vips[self.vip.key]

    @property
    def udp(self) -> UdpStats:
        """Those of its datagrams."""
        counted = self.stats.udp
        assert counted is not None
        return counted

    @property
    def dropped(self) -> dict[str, int]:
        """Reasons for which datagrams were lost."""
        return {why: n for why, n in self.udp.dropped.items() if n}

    @property
    def ended(self) -> dict[str, int]:
        """Reasons for which flows ended."""
        return {why: n for why, n in self.stats.closed.items() if n}

    def active(self, backend: Key) -> int:
        """Flows of a backend."""
        return self.all_stats.backends[backend].active

    def wait_flows(self, count: int, within_s: float = 5.0) -> None:
        """Wait until so many flows live."""
        wait_until(lambda: self.all_stats.flows_active == count, within_s)

    def close(self) -> None:
        """End it."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def servers(*names: str) -> Iterator[list[UdpServer]]:
    """Servers that answer with their names."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(named(name)) for name in names]


def closed_port(host: str = "127.0.0.1") -> Key:
    """Return an address at which nobody is."""
    with bound(host) as one:
        address: Key = one.getsockname()[:2]
    return address
