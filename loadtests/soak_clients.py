"""The clients of a soak, and the board on which they write what became of them."""

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from loadtests.soak_peers import Corrupt, Exchange

PATIENCE_S = 60.0  # an exchange that takes longer hangs
GRACE_S = 0.5  # after a lenient phase, for what is on its way
KIB, MIB = 1 << 10, 1 << 20
# Connections matter more than bytes: the small ones stand for many.
EXCHANGES = [
    *[Exchange("small", 300, 2000)] * 12,
    *[Exchange("nothing", 0, 0)] * 4,
    *[Exchange("half-close", 5000, 300_000, half_close=True)] * 4,
    *[Exchange("middle", 200_000, 700_000)] * 3,
    Exchange("bytes", 400, 400, piece=1),
    Exchange("pieces", 100_000, 100_000, piece=512),
    Exchange("upload", 12 * MIB, 10),
    Exchange("download", 10, 12 * MIB),
    Exchange("both", 6 * MIB, 6 * MIB, piece=200_000),
]
SLOW = Exchange("slow reader", 100, 3 * MIB, pause_s=0.002)


class Work(Protocol):
    """What a client does once: bytes up and down, under a name."""

    @property
    def name(self) -> str: ...

    @property
    def up(self) -> int: ...

    @property
    def down(self) -> int: ...


class Board:
    """What clients did, and whether they may lose a connection now."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.done: Counter[str] = Counter()
        self.moved = 0
        self.forgiven: Counter[str] = Counter()  # losses, by phase
        self.failures: list[str] = []
        self.phase = "quiet"
        self.lenient = 0  # phases under way in which losses are forgiven
        self.excuses = 0  # how many there were
        self.resting = threading.Event()
        self.stopping = threading.Event()

    def working(self) -> bool:
        """Whether clients are to go on."""
        return not self.stopping.is_set() and not self.resting.is_set()

    @contextlib.contextmanager
    def during(self, name: str, lenient: bool) -> Iterator[None]:
        """A phase."""
        with self.lock:
            self.phase = name
            self.lenient += lenient
            self.excuses += lenient
        try:
            yield
        finally:
            if lenient:
                time.sleep(GRACE_S)
            with self.lock:
                self.phase = "quiet"
                self.lenient -= lenient

    def now(self) -> int:
        """How many lenient phases are over: a connection's life begins."""
        with self.lock:
            return self.excuses - self.lenient

    def succeeded(self, exchange: Work) -> None:
        """One more."""
        with self.lock:
            self.done[self.phase] += 1
            self.moved += exchange.up + exchange.down

    def failed(self, what: Work, why: Exception, excuses: int) -> None:
        """Forgive it if a lenient phase touched the connection's life."""
        excused = isinstance(why, OSError) and not isinstance(why, TimeoutError)
        with self.lock:
            if excused and (self.lenient or self.excuses > excuses):
                self.forgiven[self.phase] += 1
                return
            self.failures.append(
                f"{self.phase}: {what.name}: {type(why).__name__} {why}"
            )


class Caller(threading.Thread):
    """Connection after connection, of whatever kind."""

    def __init__(self, number: int, board: Board) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.board = board
        self.dice = random.Random(number)

    def run(self) -> None:
        """Work until the end; rest when the board says so."""
        while not self.board.stopping.is_set():
            if self.board.resting.is_set():
                time.sleep(0.02)
                continue
            self.connection()

    def connection(self) -> None:
        """One connection."""
        raise NotImplementedError


class Client(Caller):
    """A few exchanges on each connection."""

    def __init__(
        self, number: int, addresses: list[tuple[str, int]], board: Board
    ) -> None:
        super().__init__(number, board)
        self.addresses = addresses
        self.source = f"127.1.0.{number + 1}"
        self.choices = EXCHANGES
        self.start()

    def connection(self) -> None:
        """One connection."""
        excuses = self.board.now()
        exchange = self.choices[0]
        try:
            address = self.dice.choice(self.addresses)
            with socket.create_connection(
                address, PATIENCE_S, (self.source, 0)
            ) as connection:
                for _ in range(self.dice.choice([1, 1, 1, 3, 10])):
                    exchange = self.dice.choice(self.choices)
                    exchange.run(connection, self.dice.randrange(MIB))
                    self.board.succeeded(exchange)
                    if exchange.half_close or not self.board.working():
                        break
                    if self.dice.random() < 0.1:  # a streamer becomes a talker
                        time.sleep(0.05)
        except (OSError, Corrupt) as error:
            self.board.failed(exchange, error, excuses)


class SlowReader(Client):
    """Asks for more than buffers hold and takes its time, until a moment."""

    def __init__(
        self,
        number: int,
        addresses: list[tuple[str, int]],
        board: Board,
        until: float,
    ) -> None:
        self.until = until
        super().__init__(number, addresses, board)

    def run(self) -> None:
        """Work until the phase is over."""
        self.choices = [SLOW]
        while time.monotonic() < self.until:
            self.connection()
