"""Real processes: the program under test, and small servers that can be killed."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

from pyproxy.sandbox.certificates import Pair
from tests.support.waiting import scaled, wait_until

ROOT = Path(__file__).parents[2]
ACTIVATE = str(Path(__file__).with_name("activate.py"))
START_S = 20.0
END_S = 15.0


class Program:
    """`python -m MODULE ARGUMENTS`, with its output in files."""

    launcher: ClassVar[tuple[str, ...]] = (sys.executable, "-W", "error", "-m")

    def __init__(
        self,
        directory: Path,
        module: str,
        *arguments: str,
        environment: dict[str, str] | None = None,
        given: Sequence[socket.socket] = (),  # as systemd does
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._out, self._err = directory / "stdout", directory / "stderr"
        self._files: list[IO[bytes]] = [self._out.open("wb"), self._err.open("wb")]
        fds = [each.fileno() for each in given]
        activate = [sys.executable, ACTIVATE, ",".join(map(str, fds))] if fds else []
        self.process = subprocess.Popen(
            [*activate, *self.launcher, module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            pass_fds=fds,
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def stdout(self) -> str:
        """All of it so far."""
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        """All of it so far."""
        return self._err.read_text()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait_for(self, text: str, deadline_s: float = START_S) -> None:
        """Wait until `text` stands on stdout; fail at once if the program ends."""

        def seen() -> bool:
            if text in self.stdout:
                return True
            code = self.process.poll()
            assert code is None, f"ended with {code}: {self.stderr}"
            return False

        wait_until(seen, deadline_s, f"{text!r} on stdout")

    def wait(self, deadline_s: float = END_S) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(scaled(deadline_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()  # also when it is stopped
        self.process.wait(scaled(END_S))
        for file in self._files:
            file.close()


class SmallServer(Program):
    """A small HTTPS server of the sandbox; SIGUSR1 makes it not ready, and ready."""

    def __init__(self, directory: Path, name: str, pair: Pair, port: int = 0) -> None:
        files = (str(pair.certificate), str(pair.key))
        module = "pyproxy.sandbox.server"
        super().__init__(directory, module, name, "127.0.0.1", str(port), *files)
        self.name = name
        self._pair = pair
        self._directory = directory
        self._port = port

    @property
    def port(self) -> int:
        """Where it listens; waits for it."""
        if not self._port:
            self.wait_for("\n")
            self._port = int(self.stdout)
        return self._port

    @property
    def address(self) -> str:
        """Where it listens, as `HOST:PORT`."""
        return f"127.0.0.1:{self.port}"

    def again(self) -> "SmallServer":
        """Start another one in its place."""
        return SmallServer(self._directory, self.name, self._pair, self.port)


class Balancer(Program):
    """`pyproxy apiserver-lb` with an admin address, its log as JSON."""

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        given: Sequence[socket.socket] = (),
    ) -> None:
        super().__init__(
            directory,
            "pyproxy",
            "apiserver-lb",
            "--admin-address=127.0.0.1:0",
            "--log-format=json",
            *arguments,
            environment=environment,
            given=given,
        )

    @property
    def log(self) -> list[dict[str, Any]]:
        """Every complete log line so far."""
        lines = self.stderr.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of one event."""
        return [entry for entry in self.log if entry["event"] == name]

    def wait_for_event(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait for the `count`th line of an event."""
        wait_until(lambda: len(self.events(name)) >= count, START_S, f"event {name!r}")
        return self.events(name)[count - 1]

    def serving(self) -> tuple[str, int]:
        """Wait until it serves; return where its first listener is."""
        self.wait_for("Starting to serve on ")
        first = self.stdout.splitlines()[0].removeprefix("Starting to serve on ")
        host, _, port = first.rpartition(":")
        return host.strip("[]"), int(port)

    def get(self, path: str) -> tuple[int, str]:
        """Ask the admin address."""
        url = self.wait_for_event("admin address open")["url"]
        host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), scaled(10.0))
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def table(self) -> dict[str, Any]:
        """Return `/debug/table`."""
        return dict(json.loads(self.get("/debug/table")[1]))

    def states(self) -> dict[str, str]:
        """Address of each backend -> its state."""
        return {
            backend["address"]: backend["state"]
            for pool in self.table()["pools"]
            for backend in pool["backends"]
        }

    def wait_for_states(self, *states: str, deadline_s: float = 20.0) -> None:
        """Wait until the backends, in order, are in these states."""
        wait_until(
            lambda: tuple(self.states().values()) == states, deadline_s, str(states)
        )
