"""Proxies that a tunnel can go through: HTTP CONNECT, over TLS or not, and SOCKS5."""

import base64
import socket
import ssl
import struct
import threading

from pyproxy.sandbox.certificates import Pair
from tests.support.servers import CHUNK, Server, receive_exactly


class Forwarder(Server):
    """Dials where it is told; `went` has every `HOST:PORT`, `said` every credential.

    `refuse` makes it answer no. Names are looked up here, and `names` can invent some.
    """

    def __init__(self, kind: str, pair: Pair | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.went: list[str] = []
        self.said: list[str] = []
        self.shown: list[str] = []  # credentials for HTTP, as they came
        self.pieces: tuple[bytes, ...] = (b"HTTP/1.1 200 OK\r\n\r\n",)
        self.refuse = False
        self.names: dict[str, str] = {}
        self._context: ssl.SSLContext | None = None
        if pair is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(pair.certificate, pair.key)

    @property
    def url(self) -> str:
        """For proxy-url."""
        return f"{self.kind}://127.0.0.1:{self.address.port}"

    def serve(self, connection: socket.socket) -> None:
        """Greet, dial, and pass bytes on until either side ends."""
        if self._context is not None:
            raw = connection.dup()  # its own is closed by the caller
            try:
                connection = self._context.wrap_socket(raw, server_side=True)
            except OSError:
                raw.close()
                return
        try:
            greet = self._socks if self.kind.startswith("socks") else self._connect
            where = greet(connection)
            if where is not None:
                self._relay(connection, where)
        finally:
            if self._context is not None:
                connection.close()

    def _connect(self, connection: socket.socket) -> tuple[str, int] | None:
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = connection.recv(CHUNK)
            if not chunk:
                return None
            head += chunk
        line, *headers = head.decode().split("\r\n")
        self.went.append(line.split(" ")[1])
        for header in headers:
            if header.lower().startswith("proxy-authorization: basic "):
                self.shown.append(header.split(" ")[2])
                plain = base64.b64decode(self.shown[-1])
                self.said.append(plain.decode("utf-8", "replace"))
        if self.refuse:
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return None
        if not self.answer(connection):
            return None
        host, _, port = self.went[-1].rpartition(":")
        return host, int(port)

    def answer(self, connection: socket.socket) -> bool:
        """Say that there is a connection now; return whether there is one."""
        for piece in self.pieces:
            connection.sendall(piece)
        return True

    def _socks(self, connection: socket.socket) -> tuple[str, int] | None:
        _, count = receive_exactly(connection, 2)
        methods = receive_exactly(connection, count)
        if 2 in methods:
            connection.sendall(b"\x05\x02")
            _, size = receive_exactly(connection, 2)
            user = receive_exactly(connection, size)
            password = receive_exactly(connection, receive_exactly(connection, 1)[0])
            self.said.append(f"{user.decode()}:{password.decode()}")
            connection.sendall(b"\x01\x00")
        else:
            connection.sendall(b"\x05\x00")
        _, _, _, kind = receive_exactly(connection, 4)
        if kind == 3:
            host = receive_exactly(connection, receive_exactly(connection, 1)[0])
            name = host.decode()
        else:
            name = socket.inet_ntoa(receive_exactly(connection, 4))
        (port,) = struct.unpack("!H", receive_exactly(connection, 2))
        self.went.append(f"{name}:{port}")
        code = b"\x02" if self.refuse else b"\x00"
        connection.sendall(b"\x05" + code + b"\x00\x01" + bytes(6))
        return None if self.refuse else (name, port)

    def _relay(self, near: socket.socket, where: tuple[str, int]) -> None:
        host = self.names.get(where[0], where[0])
        with socket.create_connection((host, where[1]), 10.0) as far:
            back = threading.Thread(target=_copy, args=(far, near))
            back.start()
            _copy(near, far)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while chunk := source.recv(CHUNK):
            sink.sendall(chunk)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
