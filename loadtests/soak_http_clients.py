"""The clients of a soak over HTTP: requests of every kind, all answers checked."""

import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from loadtests.soak_clients import KIB, MIB, PATIENCE_S, Board, Caller
from loadtests.soak_http_peers import (
    END,
    Headers,
    chunk,
    event,
    made,
    pieces,
    read_body,
    read_chunks,
    read_exactly_line,
    read_head,
)
from loadtests.soak_peers import Corrupt, CutShort, Exchange

HELD = 64 * KIB  # what a request may have to be sent a second time


class Refused(OSError):
    """An answer that is not the one that was to come."""


class Wire:
    """A client's connection, and what has been read of it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, PATIENCE_S)
        self.file = self.socket.makefile("rb")
        self.lasts = True

    def close(self) -> None:
        """Close both."""
        self.file.close()
        self.socket.close()

    def ask(self, method: str, path: str, headers: str = "", body: bytes = b"") -> None:
        """Send a request."""
        head = f"{method} /api/{path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
        self.socket.sendall(head.encode() + body)

    def head(self, status: str, to_head: bool = False) -> Headers:
        """Read the head of an answer; there is no body in one to HEAD.

        Raises:
            Refused: it has another status.
        """
        words: list[str] = []
        while not words or (words[1] == "100" and status != "100"):
            try:
                words, headers = read_head(self.file)
            except ConnectionError as error:
                raise CutShort(str(error)) from None
            if not words:
                raise CutShort("no answer")
        self.lasts = headers.get("connection") != "close"
        if words[1] != status:
            rest = b"" if to_head else read_body(self.file, headers)
            raise Refused(f"{' '.join(words[1:])}: {rest[:200]!r}")
        return headers

    def body(self, headers: Headers, size: int, start: int) -> None:
        """Read the body of an answer and compare."""
        to_end = not {"content-length", "transfer-encoding"} & headers.keys()
        got = self.file.read() if to_end else read_body(self.file, headers)
        if got == made(size, start):
            return
        if made(size, start).startswith(got):
            raise CutShort(f"{len(got)} of {size} bytes")
        raise Corrupt(f"{size} bytes came as others")


@dataclass(frozen=True)
class Deed:
    """What a client does on its connection, once."""

    name: str
    work: Callable[["Deed", Wire, random.Random], None]
    up: int = 0  # bytes, roughly
    down: int = 0

    def run(self, wire: Wire, dice: random.Random) -> None:
        """Do it.

        Raises:
            Corrupt: some byte is not what was sent.
            OSError: the answer did not come, or another one.
        """
        self.work(self, wire, dice)


def get(deed: Deed, wire: Wire, dice: random.Random) -> None:
    """A body, framed as the deed's name says."""
    start = dice.randrange(MIB)
    size = dice.randint(deed.down // 2, deed.down)
    wire.ask("GET", f"{deed.name}?size={size}&start={start}")
    wire.body(wire.head("200"), size, start)


def nothing(deed: Deed, wire: Wire, dice: random.Random) -> None:
    """Answers without a body."""
    wire.ask("DELETE", "nothing")
    wire.head("204")
    wire.ask("HEAD", "nothing")
    wire.head("204", to_head=True)


def pipelined(deed: Deed, wire: Wire, dice: random.Random) -> None:
    """Several requests at once, answered in their order."""
    asked = [(dice.randrange(9000), dice.randrange(MIB)) for _ in range(5)]
    for size, start in asked:
        wire.ask("GET", f"sized?size={size}&start={start}")
    for size, start in asked:
        wire.body(wire.head("200"), size, start)


def upload(deed: Deed, wire: Wire, dice: random.Random) -> None:
    """A body for the server: sized or in chunks, now and then after asking first."""
    start = dice.randrange(MIB)
    size = dice.randint(deed.up // 2, deed.up)
    body, headers = made(size, start), ""
    if dice.random() < 0.5:
        headers += "Transfer-Encoding: chunked\r\n"
        body = b"".join(map(chunk, pieces(body, dice))) + END
    else:
        headers += f"Content-Length: {len(body)}\r\n"
    path = f"taken?size={size}&start={start}"
    if dice.random() < 0.2:
        wire.ask("PUT", path, headers + "Expect: 100-continue\r\n")
        wire.head("100")
        wire.socket.sendall(body)
    else:
        wire.ask("PUT", path, headers, body)
    answered(wire, size)


def answered(wire: Wire, size: int) -> None:
    """What became of an upload."""
    try:
        wire.head("201")
    except Refused as refused:
        if str(refused).startswith("401") and size > HELD:
            return  # a credential has expired, and this cannot be sent twice
        if str(refused).startswith("422"):
            raise Corrupt(f"{size} bytes arrived as others") from None
        raise


def execute(deed: Deed, wire: Wire, dice: random.Random) -> None:
    """An upgrade, then bytes both ways at once: the last on its connection."""
    wire.ask("POST", "exec", "Connection: Upgrade\r\nUpgrade: soak\r\n")
    wire.head("101")
    for _ in range(dice.randint(1, 3)):
        piece = dice.choice([700, 16 * KIB, 200_000])
        Exchange("exec", deed.up, deed.down, piece).run(
            wire.socket, dice.randrange(MIB)
        )
    wire.lasts = False


def watch(deed: Deed, wire: Wire, dice: random.Random) -> None:
    """Every event, in order, each one in time; then a proper end."""
    count, pause_ms = dice.randint(20, 100), dice.choice([1, 10, 30])
    wire.ask("GET", f"watch?events={count}&pause={pause_ms}")
    wire.head("200")
    for number in range(count):
        size = int(read_exactly_line(wire.file), 16)
        if wire.file.read(size + 2) != event(number) + b"\r\n":
            raise CutShort(f"no event {number}")
    if read_chunks(wire.file):
        raise Corrupt("an event too many")


DEEDS = [
    *[Deed("sized", get, down=3000)] * 10,
    *[Deed("chunked", get, down=20_000)] * 5,
    *[Deed("eof", get, down=20_000)] * 2,
    *[Deed("nothing", nothing)] * 2,
    *[Deed("pipelined", pipelined, down=22_000)] * 3,
    *[Deed("upload", upload, up=30_000)] * 3,
    *[Deed("exec", execute, up=100_000, down=100_000)] * 2,
    Deed("sized", get, down=6 * MIB),
    Deed("chunked", get, down=3 * MIB),
    Deed("upload", upload, up=3 * MIB),
]
WATCH = Deed("watch", watch, down=10_000)
SLOW_BYTES, SLOW_PAUSE_S = 3 * MIB, 0.002


class HttpClient(Caller):
    """A few requests on each connection."""

    def __init__(self, number: int, address: tuple[str, int], board: Board) -> None:
        super().__init__(number, board)
        self.address = address
        # Every fourth one does what most clients of an API server do: it waits.
        self.choices = [WATCH] if number % 4 == 3 else DEEDS
        self.start()

    def connection(self) -> None:
        """One connection."""
        excuses = self.board.now()
        deed = self.choices[0]
        wire = None
        try:
            wire = Wire(self.address)
            for _ in range(self.dice.choice([1, 1, 3, 10, 30])):
                deed = self.dice.choice(self.choices)
                deed.run(wire, self.dice)
                self.board.succeeded(deed)
                if not wire.lasts or not self.board.working():
                    break
        except (OSError, Corrupt, ValueError) as error:
            self.board.failed(deed, error, excuses)
        finally:
            if wire is not None:
                wire.close()


def read_slowly(address: tuple[str, int], board: Board, until: float) -> None:
    """Ask for more than buffers hold and take time over it."""
    excuses = board.now()
    deed = Deed("slow reader", get, down=SLOW_BYTES)
    wire = Wire(address)
    try:
        wire.ask("GET", f"sized?size={SLOW_BYTES}&start=7")
        headers = wire.head("200")
        got = b""
        while time.monotonic() < until:
            got += wire.file.read(4 * KIB)
            time.sleep(SLOW_PAUSE_S)
        got += wire.file.read(int(headers["content-length"]) - len(got))
        if got != made(SLOW_BYTES, 7):
            raise Corrupt("a slow reader got other bytes")
        board.succeeded(deed)
    except (OSError, Corrupt, ValueError) as error:
        board.failed(deed, error, excuses)
    finally:
        wire.close()
