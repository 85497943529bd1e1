"""An apiserver as a probe and a client see it: TLS, HTTP/1.1, and moods."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path

from pyproxy.sandbox.certificates import Authority, Pair
from tests.support.servers import Server


def server_context(pair: Pair, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return a server's TLS context; with `client_ca` it asks clients who they are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class FakeApiserver(Server):
    """Answers `/readyz` with `code`, and anything else with its name."""

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        name: str = "fake",
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__(host, port)
        self.name = name
        self.code = 200
        self.body = b"ok"
        self.token = ""  # when set, what a request must carry
        self.heads: list[bytes] = []  # of every request
        self._context = context
        self._wrapped: set[ssl.SSLSocket] = set()
        self._mutex = threading.Lock()

    def serve(self, connection: socket.socket) -> None:
        """Answer requests until EOF."""
        if self._context is None:
            self._answer(connection)
            return
        try:
            wrapped = self._context.wrap_socket(connection, server_side=True)
        except (ssl.SSLError, OSError):
            return  # a client that does not trust us
        with self._mutex:
            self._wrapped.add(wrapped)
        try:
            self._answer(wrapped)
        finally:
            with self._mutex:
                self._wrapped.discard(wrapped)
            wrapped.close()

    def drop_all(self) -> None:
        """End every live connection."""
        super().drop_all()
        with self._mutex:
            for wrapped in self._wrapped:
                with contextlib.suppress(OSError):
                    wrapped.shutdown(socket.SHUT_RDWR)

    def _answer(self, connection: socket.socket) -> None:
        unread = b""
        while True:
            while b"\r\n\r\n" not in unread:
                chunk = connection.recv(4096)
                if not chunk:
                    return
                unread += chunk
            head, _, unread = unread.partition(b"\r\n\r\n")
            self.heads.append(head)
            connection.sendall(self._reply(head))

    def _reply(self, head: bytes) -> bytes:
        code, body = 200, f"{self.name}\n".encode()
        if head.startswith(b"GET /readyz"):
            code, body = self.code, self.body
        wanted = f"Authorization: Bearer {self.token}".encode()
        if self.token and wanted not in head.split(b"\r\n"):
            code, body = 401, b"Unauthorized"
        status = f"HTTP/1.1 {code} Reason\r\nContent-Length: {len(body)}\r\n\r\n"
        return status.encode() + body


def authority(directory: Path, name: str = "test CA") -> Authority:
    """Return a certificate authority with its files in a directory of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    return Authority(directory, name)
