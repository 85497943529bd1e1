"""Child processes that never outlive us, even when we are killed."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None)


class Child:
    """One Python process: started, watched, stopped, started again."""

    def __init__(self, *arguments: str, errors: int | None = None) -> None:
        """Prepare `python -m ARGUMENTS`; `errors=PIPE` to read its stderr."""
        self._arguments = arguments
        self._errors = errors
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The process, running or not."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """Of the present or last process."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended; a stopped one runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for us, we end the others in order
            preexec_fn=_die_with(os.getpid()),
        )

    async def first_line(self, deadline_s: float = 20.0) -> str:
        """Return the first line that it prints; empty if it ends without one."""
        assert self.process.stdout is not None
        async with asyncio.timeout(deadline_s):
            return (await self.process.stdout.readline()).decode().strip()

    async def stop(self, number: signal.Signals, patience_s: float) -> None:
        """Send a signal; kill what has not ended after `patience_s`."""
        if not self.is_running:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(patience_s):
                await self.process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


def _die_with(parent: int) -> Callable[[], None]:
    """Return what a child does before exec: ask the kernel to be killed after us."""

    def ask() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # we were killed in between

    return ask
