"""An upstream over TLS that writes down, byte by byte, what a proxy sends to it.

It answers with `Recorder.answer`, bytes as they are to go on the wire, chosen by path:
what a peer and we make of the same request can be laid side by side.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pyproxy.sandbox.certificates import Authority, Pair
from tests.support.servers import Server
from tests.support.waiting import wait_until

MAX_HEAD = 1 << 20


class Seen(NamedTuple):
    """One request as it came."""

    line: str
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes
    certificate: str  # common name of the client's; "" = none

    @property
    def target(self) -> str:
        """Path and query."""
        return self.line.split(" ")[1]

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key == name]

    def get(self, name: str) -> str | None:
        """Return the first value of a header."""
        return next(iter(self.all(name)), None)


def reply(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Return a whole response."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


Answer = bytes | Callable[[Seen, socket.socket], bytes | None]


class Recorder(Server):
    """`answers` by path, without the query; else `answer`. None ends the connection."""

    def __init__(
        self,
        pair: Pair | None,
        clients: Path | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        """`pair` None = plain HTTP; `clients` = CA of certificates to ask for."""
        super().__init__(host, port)
        self._context: ssl.SSLContext | None = None
        if pair is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(pair.certificate, pair.key)
        if clients is not None and self._context is not None:
            self._context.verify_mode = ssl.CERT_OPTIONAL
            self._context.load_verify_locations(clients)
        self._mutex = threading.Lock()
        self.seen: list[Seen] = []
        self.names: list[str | None] = []  # of SNI, one for each handshake
        if self._context is not None:
            self._context.sni_callback = self._note_name
        self.answer: Answer = reply("200 OK", b"hello", "Content-Type: text/plain")
        self.answers: dict[str, Answer] = {}

    @property
    def url(self) -> str:
        """For `server:` of a kubeconfig."""
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://127.0.0.1:{self.address.port}"

    def wait_for(self, count: int = 1) -> Seen:
        """Wait for the `count`th request."""
        wait_until(lambda: len(self.seen) >= count, 10.0, f"{count} requests upstream")
        return self.seen[count - 1]

    def serve(self, connection: socket.socket) -> None:
        """Talk until either side has had enough."""
        if self._context is None:
            self._talk(connection, "")
            return
        raw = connection.dup()  # its own is closed by the caller
        try:
            wrapped = self._context.wrap_socket(raw, server_side=True)
        except OSError:
            raw.close()
            return  # a client that does not trust us
        with wrapped:
            shown = wrapped.getpeercert()
            self._talk(wrapped, _common_name(shown) if shown else "")

    def _talk(self, connection: socket.socket, certificate: str) -> None:
        buffer = b""
        while True:
            found = read_request(connection, buffer, certificate)
            if found is None:
                return
            seen, buffer = found
            with self._mutex:
                self.seen.append(seen)
            chosen = self.answers.get(seen.target.partition("?")[0], self.answer)
            answer = chosen(seen, connection) if callable(chosen) else chosen
            if answer is None:
                return
            connection.sendall(answer)

    def _note_name(
        self, connection: object, name: str | None, context: ssl.SSLContext
    ) -> None:
        self.names.append(name)


def read_request(
    connection: socket.socket, buffer: bytes, certificate: str = ""
) -> tuple[Seen, bytes] | None:
    """Return a request and what came after it; None at EOF."""
    while b"\r\n\r\n" not in buffer:
        chunk = connection.recv(65536)
        if not chunk or len(buffer) > MAX_HEAD:
            return None
        buffer += chunk
    head, _, buffer = buffer.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    pairs = [each.partition(":") for each in lines]
    headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
    seen = Seen(line, headers, b"", certificate)
    if seen.get("transfer-encoding") == "chunked":
        body, buffer = _read_chunks(connection, buffer)
    else:
        size = int(seen.get("content-length") or 0)
        buffer = _more(connection, buffer, size)
        body, buffer = buffer[:size], buffer[size:]
    return seen._replace(body=body), buffer


def _read_chunks(connection: socket.socket, buffer: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        while b"\r\n" not in buffer:
            buffer = _more(connection, buffer, len(buffer) + 1)
        size_text, _, buffer = buffer.partition(b"\r\n")
        size = int(size_text, 16)
        buffer = _more(connection, buffer, size + 2)
        body, buffer = body + buffer[:size], buffer[size + 2 :]
        if size == 0:
            return body, buffer


def _more(connection: socket.socket, buffer: bytes, size: int) -> bytes:
    while len(buffer) < size:
        chunk = connection.recv(65536)
        if not chunk:
            raise ConnectionError("the client ended in mid-request")
        buffer += chunk
    return buffer


def _common_name(certificate: object) -> str:
    assert isinstance(certificate, dict)
    for part in certificate.get("subject", ()):
        for name, value in part:
            if name == "commonName":
                return str(value)
    return ""


def pair_for(issuer: Authority) -> Pair:
    """Return a certificate for the addresses at which tests listen."""
    return issuer.issue("upstream", ["127.0.0.1", "localhost", "::1"])
