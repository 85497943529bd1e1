"""The API server of a soak over HTTP: every way to frame a body, watches, upgrades.

A body is a slice of the block of `soak_peers` with its digest behind it, and the
request says which slice: both ends know every byte.

As a program, `python -m loadtests.soak_http_peers CERTIFICATE TOKENS [PORT]`: TOKENS is
a file with the bearer tokens that are good at the moment, one a line. Prints its port.
"""

import contextlib
import hashlib
import io
import itertools
import random
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from loadtests.soak_peers import BLOCK, DIGEST, HEADER, answer, receive

Headers = dict[str, str]
END = b"0\r\n\r\n"


def made(size: int, start: int) -> bytes:
    """The body of `size` bytes that begins at `start` of the block, digest included."""
    start %= len(BLOCK)
    content = (BLOCK[start:] + BLOCK * (size // len(BLOCK) + 1))[:size]
    return content + hashlib.blake2b(content, digest_size=DIGEST).digest()


def chunk(data: bytes) -> bytes:
    """As one chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def pieces(body: bytes, dice: random.Random) -> list[bytes]:
    """Cut somewhere; never into more than some forty."""
    cuts = [0]
    while cuts[-1] < len(body):
        cuts.append(cuts[-1] + dice.randint(1, max(20, len(body) // 20)))
    return [body[a:b] for a, b in itertools.pairwise(cuts)]


def event(number: int) -> bytes:
    """The event of a watch that has this number: one line."""
    proof = hashlib.blake2b(b"%d" % number, digest_size=DIGEST).hexdigest()
    return f'{{"type":"MODIFIED","number":{number},"proof":"{proof}"}}\n'.encode()


def read_head(file: io.BufferedIOBase) -> tuple[list[str], Headers]:
    """Words of the first line, and headers by lower-case name. No word = the end."""
    first = file.readline().decode("latin-1").split(maxsplit=2)
    headers: Headers = {}
    while first:
        line = file.readline()
        if not line:
            raise ConnectionError("ended in a head")
        if line == b"\r\n":
            break
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return first, headers


def read_exactly(file: io.BufferedIOBase, size: int) -> bytes:
    """So many bytes, or an error."""
    data = file.read(size)
    if len(data) < size:
        raise ConnectionError(f"{size - len(data)} of {size} bytes missing")
    return data


def read_chunks(file: io.BufferedIOBase) -> bytes:
    """A chunked body."""
    parts = []
    while size := int(read_exactly_line(file), 16):
        parts.append(read_exactly(file, size))
        file.readline()
    file.readline()
    return b"".join(parts)


def read_exactly_line(file: io.BufferedIOBase) -> bytes:
    """A line, or an error."""
    line = file.readline()
    if not line.endswith(b"\n"):
        raise ConnectionError("ended in a chunked body")
    return line


def read_body(file: io.BufferedIOBase, headers: Headers) -> bytes:
    """What belongs to a head that tells its size."""
    if "transfer-encoding" in headers:
        return read_chunks(file)
    return read_exactly(file, int(headers.get("content-length", "0")))


def serve(plain: socket.socket, context: ssl.SSLContext, tokens: Path) -> None:
    """Answer the requests of one connection until one of us ends."""
    with contextlib.suppress(OSError, ValueError), plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_side=True) as connection:
            peer = Peer(connection, tokens)
            while peer.one():
                pass
            connection.unwrap()


class Peer:
    """One connection, served by a thread."""

    def __init__(self, connection: ssl.SSLSocket, tokens: Path) -> None:
        self.connection, self.tokens = connection, tokens
        self.file = connection.makefile("rb")
        self.dice = random.Random()

    def one(self) -> bool:
        """Answer one request; whether there may be another."""
        words, headers = read_head(self.file)
        if not words:
            return False
        target = urlsplit(words[1])
        numbers = {name: int(value) for name, value in parse_qsl(target.query)}
        if headers.get("expect"):
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = read_body(self.file, headers)
        token = headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.tokens.read_text().split():
            self.say(b"401 Unauthorized", b"Content-Length: 0\r\n")
            return True
        handler = getattr(self, f"answer_{target.path.rpartition('/')[2]}")
        return bool(handler(numbers, body))

    def say(self, status: bytes, headers: bytes, body: bytes = b"") -> None:
        """A head, and what comes right behind it."""
        head = b"HTTP/1.1 " + status + b"\r\n" + headers + b"\r\n"
        self.connection.sendall(head + body)

    def answer_sized(self, numbers: dict[str, int], _: bytes) -> bool:
        """A body with its length in front."""
        body = made(numbers["size"], numbers["start"])
        self.say(b"200 OK", b"Content-Length: %d\r\n" % len(body), body)
        return True

    def answer_chunked(self, numbers: dict[str, int], _: bytes) -> bool:
        """A body in chunks, some of them in segments of their own."""
        self.say(b"200 OK", b"Transfer-Encoding: chunked\r\n")
        for piece in pieces(made(numbers["size"], numbers["start"]), self.dice):
            self.connection.sendall(chunk(piece))
        self.connection.sendall(END)
        return True

    def answer_eof(self, numbers: dict[str, int], _: bytes) -> bool:
        """A body that ends with the connection."""
        body = made(numbers["size"], numbers["start"])
        self.say(b"200 OK", b"Connection: close\r\n", body)
        return False

    def answer_nothing(self, *_: object) -> bool:
        """No body at all."""
        self.say(b"204 No Content", b"")
        return True

    def answer_taken(self, numbers: dict[str, int], body: bytes) -> bool:
        """Whether the body arrived as it was sent."""
        if body == made(numbers["size"], numbers["start"]):
            self.say(b"201 Created", b"Content-Length: 0\r\n")
        else:
            self.say(b"422 Other bytes", b"Content-Length: 0\r\n")
        return True

    def answer_watch(self, numbers: dict[str, int], _: bytes) -> bool:
        """Events, one after another."""
        self.say(b"200 OK", b"Transfer-Encoding: chunked\r\n")
        for number in range(numbers["events"]):
            time.sleep(numbers["pause"] / 1000)
            self.connection.sendall(chunk(event(number)))
        self.connection.sendall(END)
        return True

    def answer_exec(self, *_: object) -> bool:
        """Another protocol from here: the exchanges of `soak_peers`."""
        self.say(
            b"101 Switching Protocols", b"Connection: Upgrade\r\nUpgrade: soak\r\n"
        )
        served = 0
        while header := receive(self.connection, HEADER.size):
            up, down = HEADER.unpack(header)
            answer(self.connection, up, down, served)
            served += 1
        return False


def main() -> None:
    """Serve on a port, for ever."""
    certificate, tokens = sys.argv[1], Path(sys.argv[2])
    port = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    while True:
        plain, _ = listener.accept()
        args = (plain, context, tokens)
        threading.Thread(target=serve, args=args, daemon=True).start()


if __name__ == "__main__":
    main()
