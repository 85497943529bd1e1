"""Both ends of a soak: a backend that checks what it gets, a client that does, too.

One exchange: the client says how much will come and how much it wants, sends that
much and its digest; the server answers with its verdict, the bytes asked for and
their digest. Content is a slice of one random block, so that a byte lost, doubled or
moved from another connection changes the digest.

As a program, `python -m loadtests.soak_peers [PORT]`: the backend. Prints its port.
"""

import contextlib
import hashlib
import random
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass

HEADER = struct.Struct("!QQ")  # bytes up, bytes down
DIGEST = 16
GOOD, BAD = b"+", b"-"
CHUNK = 1 << 16
BLOCK = random.Random(20).randbytes(1 << 20)


class Corrupt(Exception):
    """Bytes arrived that were never sent."""


class CutShort(OSError):
    """The stream ended in the middle of an exchange."""


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes; nothing at all at a proper end."""
    parts = bytearray()
    while len(parts) < size:
        chunk = connection.recv(size - len(parts))
        if not chunk:
            if parts:
                raise CutShort("in a header or digest")
            return b""
        parts += chunk
    return bytes(parts)


def receive_body(connection: socket.socket, size: int, pause_s: float = 0.0) -> None:
    """Read a body and its digest; compare."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    left = size
    while left:
        chunk = connection.recv(min(left, CHUNK // 4 if pause_s else CHUNK))
        if not chunk:
            raise CutShort(f"{left} of {size} bytes missing")
        digest.update(chunk)
        left -= len(chunk)
        if pause_s:
            time.sleep(pause_s)
    told = receive(connection, DIGEST)
    if not told:
        raise CutShort("no digest")
    if told != digest.digest():
        raise Corrupt(f"{size} bytes with another digest")


def send_body(
    connection: socket.socket, size: int, start: int, piece: int = CHUNK
) -> None:
    """Send `size` bytes of the block in pieces, and their digest."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    place = start % len(BLOCK)
    left = size
    while left:
        part = BLOCK[place : place + min(piece, left)]
        connection.sendall(part)
        digest.update(part)
        left -= len(part)
        place = (place + len(part)) % len(BLOCK)
    connection.sendall(digest.digest())


# ---- The client.


@dataclass(frozen=True)
class Exchange:
    """What a client does on its connection, once."""

    name: str
    up: int
    down: int
    piece: int = CHUNK  # bytes a write
    pause_s: float = 0.0  # between reads
    half_close: bool = False  # FIN behind the request: the last on its connection

    def run(self, connection: socket.socket, start: int) -> None:
        """Ask, check the answer.

        Raises:
            Corrupt: some byte is not what was sent.
            OSError: the connection ended or did not go on.
        """
        # A thread writes, as server and client may both have more than buffers hold.
        asker = threading.Thread(target=self._ask, args=(connection, start))
        asker.start()
        try:
            verdict = receive(connection, 1)
            if not verdict:
                raise CutShort("no answer")
            if verdict != GOOD:
                raise Corrupt(f"{self.up} bytes arrived as others")
            receive_body(connection, self.down, self.pause_s)
        except BaseException:
            with contextlib.suppress(OSError):  # wakes the writer
                connection.shutdown(socket.SHUT_RDWR)
            raise
        finally:
            asker.join()

    def _ask(self, connection: socket.socket, start: int) -> None:
        try:
            connection.sendall(HEADER.pack(self.up, self.down))
            send_body(connection, self.up, start, self.piece)
            if self.half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the reader meets it, too


# ---- The backend.


def serve(connection: socket.socket) -> None:
    """Answer exchanges until the client ends."""
    served = 0
    with connection:
        try:
            while header := receive(connection, HEADER.size):
                up, down = HEADER.unpack(header)
                answer(connection, up, down, served)
                served += 1
        except OSError:
            pass  # clients that vanish are part of the plan


def answer(connection: socket.socket, up: int, down: int, start: int) -> None:
    """One exchange, seen from the server."""
    try:
        receive_body(connection, up)
    except Corrupt:
        connection.sendall(BAD)
        raise OSError from None
    connection.sendall(GOOD)
    send_body(connection, down, start * 7919 + up)


def main() -> None:
    """Serve on a port, for ever."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
