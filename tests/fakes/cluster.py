"""Small servers, their certificate authority, and clients that believe it."""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.apiserver import FakeApiserver, authority, server_context
from tests.fakes.process import Balancer, SmallServer
from tests.support.waiting import scaled

Address = tuple[str, int]

# Quick enough for a test, slow enough that a busy machine is not taken for a dead one.
TIMEOUT_S = 2.0
FAST = (
    "--check-interval=100ms",
    "--check-fast-interval=50ms",
    "--check-down-interval=100ms",
    f"--check-timeout={int(scaled(TIMEOUT_S) * 1000)}ms",
)


class Cluster:
    """What a test needs to put servers behind a balancer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.issuer = authority(directory / "ca")
        self._pair = self.issuer.issue("server", ["127.0.0.1", "localhost"])
        self._context = ssl.create_default_context(cafile=str(self.issuer.certificate))

    def fake(self, name: str = "fake", port: int = 0) -> FakeApiserver:
        """A server in this process, whose moods a test can set."""
        return FakeApiserver(server_context(self._pair), name, port)

    def small(self, name: str) -> SmallServer:
        """A server in a process of its own, to be killed or stopped."""
        return SmallServer(self.directory / name, name, self._pair)

    @contextlib.contextmanager
    def three(self) -> Iterator[tuple[SmallServer, SmallServer, SmallServer]]:
        """Three servers in processes of their own."""
        with self.small("a") as a, self.small("b") as b, self.small("c") as c:
            yield a, b, c

    def program(self, *flags: str) -> Balancer:
        """A balancer with nothing but these flags."""
        return Balancer(self.directory / "balancer", *flags)

    def balancer(
        self,
        *flags: str,
        servers: list[str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Balancer:
        """A balancer that checks often and trusts our certificates."""
        return Balancer(
            self.directory / "balancer",
            "--listen=127.0.0.1:0",
            f"--check-ca={self.issuer.certificate}",
            *(f"--server={server}" for server in servers or []),
            *FAST,
            *flags,
            environment=environment,
        )

    def connect(
        self, address: Address, source: str = "", says: bytes = b""
    ) -> ssl.SSLSocket:
        """Open a TLS connection; through a balancer it ends at a server.

        It comes from the address `source`, and `says` something before TLS.
        """
        origin = (source, 0) if source else None
        plain = socket.create_connection(address, scaled(10), origin)
        try:
            plain.sendall(says)
            return self._context.wrap_socket(plain, server_hostname=address[0])
        except BaseException:
            plain.close()
            raise

    def ask(self, connection: ssl.SSLSocket, path: str = "/whoami") -> str:
        """Send one request over a kept connection and return the answer's body."""
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
            return answer.read().decode().strip()
        finally:
            answer.close()

    def who(self, address: Address) -> str:
        """Ask on a new connection who answers; empty when refused or reset."""
        try:
            with self.connect(address) as connection:
                return self.ask(connection)
        except (OSError, http.client.HTTPException):
            return ""


def is_reset(connection: ssl.SSLSocket) -> bool:
    """Whether the connection was cut; waits for it up to the socket's timeout."""
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def refuses(address: Address) -> bool:
    """Whether nobody listens there any more."""
    try:
        socket.create_connection(address, scaled(5)).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
