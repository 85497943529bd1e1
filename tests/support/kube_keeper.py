"""Holds an API server in a process between it and the tests: it may be killed there.

`python -m tests.support.kube_keeper sandbox|real DIRECTORY` starts one and says in a
line of JSON where it is. Each line on stdin, `restart` or `forget` (restart without
the history of etcd), is answered with such a line; it ends at EOF. Tests look for
children that they left behind, and these are none of theirs.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self, cast

from pyproxy.sandbox.certificates import Authority
from tests.fakes.process import ROOT, Program
from tests.support.realcluster import RealCluster

START_S = 120.0


class Server(Protocol):
    """An API server in a process of its own."""

    def where(self) -> dict[str, Any]:
        """Return its URL, its authority's file, its process id."""

    def restart(self, *, forgets: bool) -> None:
        """Kill it and start it anew."""

    def close(self) -> None:
        """Kill it."""


class Sandbox:
    """The sandbox's server. Started anew, it is another cluster."""

    def __init__(self, directory: Path) -> None:
        issuer = Authority(directory)
        pair, self._ca = issuer.issue("apiserver", ["127.0.0.1"]), issuer.certificate
        self._directory = directory
        self._files = (str(pair.certificate), str(pair.key), str(self._ca))
        self._port = 0
        self._program = self._start()

    def where(self) -> dict[str, Any]:
        """Return where it is."""
        url = f"https://127.0.0.1:{self._port}"
        return {"url": url, "ca": str(self._ca), "pid": self._program.pid}

    def restart(self, *, forgets: bool) -> None:
        """Kill it and start another one."""
        self.close()
        self._program = self._start()

    def close(self) -> None:
        """Kill it."""
        self._program.__exit__(None, None, None)

    def _start(self) -> Program:
        module = "pyproxy.sandbox.apiserver"
        where = ("127.0.0.1", str(self._port))
        program = Program(self._directory, module, *where, *self._files)
        program.wait_for("\n")
        self._port = int(program.stdout)
        return program


class Real:
    """kube-apiserver with its etcd."""

    def __init__(self, directory: Path) -> None:
        self._cluster = RealCluster(directory)
        self._cluster.__enter__()

    def where(self) -> dict[str, Any]:
        """Return where it is."""
        cluster = self._cluster
        assert cluster._apiserver is not None
        pid = cluster._apiserver.pid
        return {"url": cluster.url, "ca": str(cluster.ca), "pid": pid}

    def restart(self, *, forgets: bool) -> None:
        """Kill it and start it anew."""
        if forgets:
            self._cluster.compact()
        self._cluster.restart()

    def close(self) -> None:
        """Kill both."""
        self._cluster.__exit__(None, None, None)


class Kept:
    """A server that a keeper holds; a context manager."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        argv = [sys.executable, "-m", __name__, kind, str(directory)]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        self._where = self._read()

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._where["url"])

    @property
    def ca(self) -> Path:
        """What to trust it by."""
        return Path(self._where["ca"])

    @property
    def pid(self) -> int:
        """Its process."""
        return int(self._where["pid"])

    def restart(self, *, forgets: bool) -> None:
        """Kill it and start it anew; `forgets` = without the history of etcd."""
        stdin = cast("IO[bytes]", self._process.stdin)
        stdin.write(b"forget\n" if forgets else b"restart\n")
        stdin.flush()
        self._where = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=START_S)

    def _read(self) -> dict[str, Any]:
        line = cast("IO[bytes]", self._process.stdout).readline()
        assert line, f"the keeper of {self.kind} has ended"
        return dict(json.loads(line))


def main(kind: str, directory: Path) -> None:
    """Keep one until EOF."""
    directory.mkdir(parents=True, exist_ok=True)
    server: Server = Real(directory) if kind == "real" else Sandbox(directory)
    try:
        sys.stdout.write(json.dumps(server.where()) + "\n")
        sys.stdout.flush()
        for line in sys.stdin:
            server.restart(forgets=line.strip() == "forget")
            sys.stdout.write(json.dumps(server.where()) + "\n")
            sys.stdout.flush()
    finally:
        server.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
