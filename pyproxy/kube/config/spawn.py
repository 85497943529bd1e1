"""Run a program and take what it prints, with bounds on time and size.

A pipe of our own instead of asyncio's: a grandchild that keeps the other end open, as
token caches and agents do, must not keep us waiting once the program itself has ended.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

MAX_OUTPUT_BYTES = 1 << 20
LEFTOVER_S = 1.0  # for output that was written before the end and not read yet


async def run(
    argv: Sequence[str], env: Mapping[str, str], *, interactive: bool, timeout_s: float
) -> tuple[int, bytes]:
    """Return the exit code and stdout; stderr is ours. Not interactive = no stdin.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it did not finish, and was killed.
        ValueError: it printed too much, and was killed.
    """
    end, theirs = os.pipe2(os.O_CLOEXEC)
    output = _Output(end)
    try:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=dict(env),
                stdin=None if interactive else asyncio.subprocess.DEVNULL,
                stdout=theirs,
                # A session of its own can be killed whole. One that asks its user must
                # share our terminal.
                start_new_session=not interactive,
            )
        finally:
            os.close(theirs)
        try:
            async with asyncio.timeout(timeout_s):
                await _either(process.wait(), output.overflow.wait())
        finally:
            await _kill(process, whole=not interactive)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEFTOVER_S):
                await output.end.wait()
        if output.overflow.is_set():
            raise ValueError(f"printed more than {MAX_OUTPUT_BYTES >> 20} MiB")
        return process.returncode or 0, bytes(output.content)
    finally:
        output.close()


class _Output:
    """The reading end of a pipe, emptied as it fills."""

    def __init__(self, descriptor: int) -> None:
        self.content = bytearray()
        self.end = asyncio.Event()
        self.overflow = asyncio.Event()
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _read(self) -> None:
        try:
            chunk = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        self.content += chunk
        if len(self.content) > MAX_OUTPUT_BYTES:
            self.overflow.set()
        if not chunk or self.overflow.is_set():
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self.end.set()


async def _either(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _kill(process: asyncio.subprocess.Process, *, whole: bool) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if whole:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    await process.wait()
