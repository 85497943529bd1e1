"""One measurement of a bastion: what is asked for, and over what.

Clients speak TLS with every contender and plain HTTP with the pod itself ("direct"),
which then measures the client and the pod alone.
"""

import dataclasses
import hashlib
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from loadtests.bastion_scene import READER_TOKEN, WEB, Pod
from loadtests.contenders import Contender
from loadtests.http_files import Files
from loadtests.http_measure import HttpGenerator, HttpWork
from loadtests.measure import Work

BIG_TIMES = 100  # as native/upstream.c
ONE = "/pods/web-0"
GET = HttpWork("get", "get", 32, target=ONE)
WORKS = {
    "get": GET,
    # As many paths as this: by default each has a verdict of its own.
    "paths": dataclasses.replace(GET, name="paths", target="/pods/web-#", names=1000),
    "half": dataclasses.replace(GET, name="half"),  # its rate comes from `get`
    "download": HttpWork("download", "list", 4, target="/big/x", body="list"),
}


@dataclasses.dataclass(frozen=True)
class Requests(HttpWork):
    """Requests of many users: each is written out."""

    texts: tuple[bytes, ...] = ()


def head(target: str, token: str) -> bytes:
    """Return a GET of one user."""
    every = (
        f"GET {target} HTTP/1.1",
        "Host: localhost:8443",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101",
        "Accept: */*",
        f"Authorization: Bearer {token}",
    )
    return "\r\n".join([*every, "", ""]).encode()


def of_users(count: int, paths: int, rate: float) -> Requests:
    """Let so many users, each over a connection, ask for paths in turn."""
    texts = tuple(
        head(f"{WEB}/pods/web-{path}", f"user-{user}-token")
        for path in range(paths)
        for user in range(count)
    )
    return Requests(
        f"users{count}", "get", count, rate=rate, names=len(texts), texts=texts
    )


class BastionGenerator(HttpGenerator):
    """The pods behind every contender, and clients on demand."""

    def __init__(
        self,
        stack: ExitStack,
        cores: Sequence[int] | None,
        folder: Path,
        files: Files,
    ) -> None:
        self.cores = cores
        self.folder = folder
        self.files = files
        self.log = folder / "client.log"
        self.server = stack.enter_context(Pod(files, cores, folder))
        self.echo_port = self.server.port
        self.service = WEB

    def port(self, work: Work, contender: Contender | None) -> int:
        """Where the client goes; None = straight to the pod."""
        return self.echo_port if contender is None else contender.ports[0]

    def options(self, work: Work, port: int) -> list[str]:
        """Of a client that goes to `port`."""
        assert isinstance(work, HttpWork)
        direct = port == self.echo_port
        request = self.folder / f"{work.name}-{port}.request"
        request.write_bytes(self._bytes(work, direct))
        options = [*work.options(), "--request", str(request)]
        options += ["--names", str(work.names)]
        options += ["--expect", str(self.files.body(work.body))]
        if work.name == "download":
            options += ["--repeat", str(BIG_TIMES)]
        return options + ([] if direct else ["--ca", str(self.files.authority)])

    def _bytes(self, work: HttpWork, direct: bool) -> bytes:
        if isinstance(work, Requests):
            return b"".join(text + b"\0" for text in work.texts)
        if not direct:
            return head(self.service + work.target, READER_TOKEN)
        shown = f"Authorization: Bearer {READER_TOKEN}".encode()
        plain = head(work.target, READER_TOKEN)
        return plain.replace(shown, b"X-Forwarded-For: 127.0.0.1")

    @contextmanager
    def aimed_at(self, service: str) -> Iterator[None]:
        """Send requests to another Service for a while."""
        before, self.service = self.service, service
        try:
            yield
        finally:
            self.service = before


def digest(port: int, files: Files) -> tuple[int, str]:
    """Download all of it once; return its size and its SHA-256."""
    context = ssl.create_default_context(cafile=str(files.authority))
    read, summed = 0, hashlib.sha256()
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(head(f"{WEB}/big/x", READER_TOKEN))
        got = b""
        while b"\r\n\r\n" not in got:
            got += secure.recv(65536)
        said, _, body = got.partition(b"\r\n\r\n")
        lines = said.decode().lower().splitlines()
        size = next(int(x.split()[1]) for x in lines if x.startswith("content-length"))
        while True:  # the first piece may be empty
            read += len(body)
            summed.update(body)
            if read >= size or not (body := secure.recv(1 << 20)):
                break
    return read, summed.hexdigest()


def expected_digest(files: Files) -> tuple[int, str]:
    """Return the size and the digest that a download must have."""
    part = files.body("list").read_bytes()
    summed = hashlib.sha256()
    for _ in range(BIG_TIMES):
        summed.update(part)
    return len(part) * BIG_TIMES, summed.hexdigest()
