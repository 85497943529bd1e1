"""`pyproxy apiserver-proxy`, and a cluster whose pods are servers of the test."""

import contextlib
import gzip
import http.client
import json
import socket
import ssl
import threading
import zlib
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from pyproxy.sandbox.apiserver import write_kubeconfig
from pyproxy.sandbox.certificates import Authority, Pair
from tests.fakes.bastion_cluster import Call, caller, populate
from tests.fakes.desk import Answer, hear
from tests.fakes.process import Program
from tests.support.servers import free_port
from tests.support.waiting import scaled, wait_until

PAGE = b'<!doctype html><html><a href="/rewriteme">abs</a></html>'
REDIRECTS = {
    "abs": "/landing?x=1#f",
    "rel": "landing",
    "other": "https://elsewhere.example/z",
    "self": "http://{host}/landing",
    "ip": "http://{here}/landing",
    "bad": "http://[::1",
}


def own_address() -> str:
    """Return an address of this machine that is no loopback; "" = it has none.

    An apiserver neither takes loopback addresses for endpoints nor dials them.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # no packet is sent
        except OSError:
            return ""
        host = str(probe.getsockname()[0])
    return "" if host.startswith("127.") else host


class _Echo(BaseHTTPRequestHandler):
    """What the recorded backend did; each request is kept in `server.seen`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _read(self) -> str:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body.decode()
        return self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()

    def _answer(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        self._send(*self._reply(self._read()))

    def _reply(self, body: str) -> tuple[int, list[tuple[str, str]], bytes]:
        path = self.path.partition("?")[0]
        plain = ("Content-Type", "text/plain; charset=utf-8")
        if path.startswith("/html"):
            return self._page(path.removeprefix("/html").removeprefix("-"))
        if path in ("/plain", "/xhtml"):
            page: bytes = self.server.page  # type: ignore[attr-defined]
            kinds = {"/plain": "text/plain", "/xhtml": "application/xhtml+xml"}
            return 200, [("Content-Type", kinds[path])], page
        if path in ("/refuse", "/r200", "/r302"):
            code = {"/refuse": 403, "/r200": 200, "/r302": 302}[path]
            where = [("Location", "http://127.0.0.1:1/")] if code == 302 else []
            return code, where, b"refused" if code == 403 else b""
        if path == "/cors":
            names = ("Credentials", "Headers", "Methods", "Origin")
            cors = [(f"Access-Control-Allow-{name}", "*") for name in names]
            more = [("Access-Control-Max-Age", "5"), ("X-Frame-Options", "DENY")]
            more.append(("Access-Control-Expose-Headers", "X"))
            return 200, [*cors, *more, plain], b"ok"
        if path == "/cookie":
            cookie = "a=1; Path=/app; Domain=x.example; HttpOnly"
            return 200, [("Set-Cookie", cookie), plain], b"ok"
        if path == "/cache":
            more = [("Cache-Control", "max-age=60"), ("ETag", '"x"')]
            return 200, [*more, plain], b"ok"
        if path.startswith("/redir/"):
            return 302, [("Location", self._other_place(path))], b""
        if path.startswith("/status/"):
            code = int(path.removeprefix("/status/"))
            return (204, [], b"") if code == 204 else (code, [plain], b"status body")
        headers = sorted([name.lower(), value] for name, value in self.headers.items())
        seen = {
            "method": self.command,
            "path": self.path,
            "headers": headers,
            "body": body,
        }
        kind = [("Content-Type", "application/json"), ("X-Up", "1")]
        return 200, kind, json.dumps(seen).encode()

    def _other_place(self, path: str) -> str:
        here = "{}:{}".format(*self.connection.getsockname())
        text = REDIRECTS[path.removeprefix("/redir/")]
        return text.format(host=self.headers["Host"], here=here)

    def _page(self, coding: str) -> tuple[int, list[tuple[str, str]], bytes]:
        page: bytes = self.server.page  # type: ignore[attr-defined]
        kind = [("Content-Type", "text/html; charset=utf-8")]
        if coding == "304":
            return 304, [], b""
        if coding.isdecimal():  # a page of an error
            return int(coding), kind, page
        raw = zlib.compressobj(wbits=-15)
        bodies = {
            "": page,
            "gzip": gzip.compress(page),
            "zlib": zlib.compress(page),
            "raw-deflate": raw.compress(page) + raw.flush(),
            "br": b"brotli",
        }
        names = {"gzip": "gzip", "br": "br", "": ""}
        if name := names.get(coding, "deflate"):
            kind.append(("Content-Encoding", name))
        return 200, kind, bodies[coding]

    def _send(self, code: int, headers: list[tuple[str, str]], body: bytes) -> None:
        if self.headers.get("Upgrade") and self.path.startswith("/ws"):
            self._upgrade()
            return
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        # Tests leave no connection behind.
        self.send_header("Connection", "close")
        if code not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _upgrade(self) -> None:
        """Say which path it was, and then everything in capitals."""
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", self.headers["Upgrade"])
        self.end_headers()
        offered = self.headers.get("Sec-WebSocket-Protocol", "-")
        self.wfile.write(f"{self.path} {offered}\n".encode())
        while line := self.rfile.readline():
            self.wfile.write(line.upper())
        self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer
    do_OPTIONS = _answer


class Backend:
    """The servers of a pod: one plain, one with TLS."""

    def __init__(self, host: str, pair: Pair, page: bytes = PAGE) -> None:
        self.host, self.page = host, page
        self.seen: list[str] = []
        self._servers = [self._serve(None), self._serve(pair)]
        self.port, self.tls_port = (s.server_address[1] for s in self._servers)

    def _serve(self, pair: Pair | None) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer((self.host, 0), _Echo)
        server.seen = self.seen  # type: ignore[attr-defined]
        server.page = self.page  # type: ignore[attr-defined]
        server.daemon_threads = True
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more."""
        while self._servers:
            server = self._servers.pop()
            server.shutdown()
            server.server_close()


class Bastion(Program):
    """The program, with a client that says what it is told to."""

    def __init__(
        self,
        directory: Path,
        kubeconfig: Path,
        ca: Path,
        *flags: str,
        given: Sequence[socket.socket] = (),
    ) -> None:
        self._admin = free_port()
        self._ca = str(ca)
        super().__init__(
            directory,
            *("pyproxy", "apiserver-proxy", f"--kubeconfig={kubeconfig}"),
            *("--bind-address=127.0.0.1", "--secure-port=0", "--workers=1"),
            *(f"--admin-address=127.0.0.1:{self._admin}", "--log-format=json"),
            *flags,
            given=given,
        )

    def ready(self) -> Self:
        """Wait until everything is known."""
        self.wait_for("\n")
        wait_until(lambda: self.admin("/readyz")[0] == 200, 20.0, "ready")
        return self

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.stdout.splitlines()[0].rpartition(":")[2])

    def admin(self, path: str) -> tuple[int, str]:
        """Ask the admin address."""
        connection = http.client.HTTPConnection("127.0.0.1", self._admin, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def dial(self, pair: Pair | None = None) -> ssl.SSLSocket:
        """Connect, with a certificate or without."""
        return dial(self.port, self.trust(), pair)

    def trust(self) -> ssl.SSLContext:
        """Return a new context: one that was given a certificate shows it for ever."""
        return ssl.create_default_context(cafile=self._ca)

    def ask(self, target: str, *lines: str, **more: Any) -> Answer:
        """Send a request and return the answer."""
        with self.dial(more.pop("pair", None)) as connection:
            return ask(connection, target, *lines, **more)


def dial(
    port: int,
    context: ssl.SSLContext,
    pair: Pair | None = None,
    *,
    host: str = "127.0.0.1",
    session: ssl.SSLSession | None = None,
) -> ssl.SSLSocket:
    """Speak TLS with a port of this machine."""
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    plain = socket.create_connection((host, port), scaled(10.0))
    return context.wrap_socket(plain, server_hostname="127.0.0.1", session=session)


def ask(
    connection: socket.socket,
    target: str,
    *lines: str,
    method: str = "GET",
    token: str | None = "admin-token",
    host: str = "bastion.example:8443",
    body: bytes = b"",
) -> Answer:
    """Send a request over a connection and return the answer."""
    connection.sendall(
        head(target, *lines, method=method, token=token, host=host, body=body) + body
    )
    return hear(connection, method)


def head(
    target: str, *lines: str, method: str, token: str | None, host: str, body: bytes
) -> bytes:
    """Return the head of a request."""
    every = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines]
    if token:
        every.append(f"Authorization: Bearer {token}")
    if body:
        every.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*every, "", ""]).encode("latin-1")


@contextlib.contextmanager
def bastion(
    directory: Path,
    *flags: str,
    page: bytes = PAGE,
    given: Sequence[socket.socket] = (),
    apiserver: str = "tests.fakes.emptycluster",
) -> Iterator[tuple[Bastion, Backend, Call]]:
    """Run one beside the sandbox's apiserver, with a cluster that has one backend.

    `apiserver` is the module that is that apiserver.
    """
    directory.mkdir(parents=True, exist_ok=True)
    issuer = Authority(directory)
    pair = issuer.issue("server", ["127.0.0.1", own_address()])
    files = [str(each) for each in (pair.certificate, pair.key, issuer.certificate)]
    with (
        Program(directory / "api", apiserver, "0", *files) as api,
        Backend(own_address(), pair, page) as backend,
    ):
        api.wait_for("\n")
        url = f"https://127.0.0.1:{int(api.stdout)}"
        call = caller(url, issuer.certificate)
        populate(call, backend)
        kubeconfig = directory / "kubeconfig"
        write_kubeconfig(kubeconfig, url, issuer.certificate, "admin-token")
        serving = (
            f"--tls-cert-file={pair.certificate}",
            f"--tls-private-key-file={pair.key}",
            f"--client-ca-file={issuer.certificate}",
        )
        with Bastion(
            directory / "bastion",
            kubeconfig,
            issuer.certificate,
            *(*serving, *flags),
            given=given,
        ) as program:
            yield program.ready(), backend, call
