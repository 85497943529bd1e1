"""`kubectl proxy` and `pyproxy kubectl-proxy`, started with the same flags."""

import http.client
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import yaml

from tests.fakes.process import Program
from tests.support.waiting import scaled

AGAIN = "/again"  # asked after each request, to see whether it is answered
START = "Starting to serve on "
Where = tuple[str, int] | str  # a path = a unix socket


def find_kubectl() -> str:
    """Return the kubectl of the test group, "" = there is none."""
    beside = Path(sys.executable).with_name("kubectl")
    return str(beside) if beside.is_file() else shutil.which("kubectl") or ""


class Answer(NamedTuple):
    """What a client sees."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes
    closes: bool  # the connection, afterwards

    def get(self, name: str) -> str | None:
        """Return the first value of a header."""
        return next((value for key, value in self.headers if key == name), None)


class Desk(Program):
    """A proxy at any free port, or on a unix socket if the flags say so."""

    def __init__(
        self,
        directory: Path,
        *flags: str,
        environment: dict[str, str] | None = None,
    ) -> None:
        unix = any(flag.startswith("--unix-socket") for flag in flags)
        fixed = any(flag.startswith("--port") for flag in flags)
        port = () if unix or fixed else ("--port=0",)
        # Before the caller's: what stands behind `--` is not ours.
        super().__init__(directory, *self.words, *port, *flags, environment=environment)

    words: ClassVar[tuple[str, ...]] = ("pyproxy", "kubectl-proxy")

    @property
    def where(self) -> Where:
        """Where it listens; waits for it."""
        self.wait_for("\n")
        shown = self.stdout.splitlines()[0].removeprefix(START)
        if shown.startswith("/"):
            return shown
        host, _, port = shown.rpartition(":")
        return (host.strip("[]"), int(port))

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""
        assert isinstance(self.where, tuple)
        return self.where[1]

    def ask(
        self,
        path: str = "/",
        method: str = "GET",
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """Send a request as any client would; `_` in a header's name is a hyphen."""
        lines = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = {"Host": "localhost", **lines}
        if body is not None:
            lines["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        raw = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1")
        return self.say(raw + (body or b""), method)

    def say(self, raw: bytes, method: str = "GET") -> Answer:
        """Send bytes as they are, and return the answer."""
        with self.dial() as connection:
            connection.sendall(raw)
            return hear(connection, method)

    def dial(self) -> socket.socket:
        """Connect."""
        where = self.where
        if isinstance(where, str):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(scaled(10.0))
            connection.connect(where)
            return connection
        return socket.create_connection(where, scaled(10.0))


class Kubectl(Desk):
    """The peer."""

    launcher: ClassVar[tuple[str, ...]] = (find_kubectl(),)
    words: ClassVar[tuple[str, ...]] = ("proxy",)


# For what both must do.
NO_KUBECTL = pytest.mark.skipif(not find_kubectl(), reason="no kubectl here")
either = pytest.mark.parametrize(
    "kind", [pytest.param(Kubectl, marks=NO_KUBECTL), Desk], ids=["kubectl", "pyproxy"]
)


def hear(connection: socket.socket, method: str = "GET") -> Answer:
    """Read one response."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    body = response.read()
    headers = tuple((name.lower(), value) for name, value in response.getheaders())
    return Answer(
        response.status, response.reason, headers, body, bool(response.will_close)
    )


def has_ended(connection: socket.socket) -> bool:
    """Whether nobody answers any more, whatever the last response said of it."""
    try:
        connection.sendall(f"GET {AGAIN} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def kubeconfig(
    file: Path,
    server: str,
    user: Mapping[str, Any] | None = None,
    ca: Path | None = None,
    **cluster: Any,
) -> str:
    """Write one with one context, and return its name."""
    entry = {"server": server, **cluster}
    if ca is not None:
        entry["certificate-authority"] = str(ca)
    write_kubeconfig(file, {"main": (entry, user or {})})
    return str(file)


Entry = tuple[Mapping[str, Any], Mapping[str, Any]]  # cluster, user


def write_kubeconfig(file: Path, contexts: Mapping[str, Entry]) -> None:
    """Write these contexts, in one step as editors do; the first is the current one."""
    names = list(contexts)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": names[0],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name}} for name in names
        ],
        "clusters": [{"name": n, "cluster": dict(contexts[n][0])} for n in names],
        "users": [{"name": n, "user": dict(contexts[n][1])} for n in names],
    }
    fresh = file.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(document))
    os.replace(fresh, file)
