"""A command that runs while the proxy is up, and ends it when it ends."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence

from pyproxy.errors import StartError

NOT_FOUND, NOT_RUNNABLE = 127, 126  # exit codes of a shell
URL, SOCKET = "PYPROXY_URL", "PYPROXY_SOCKET"


class CommandError(StartError):
    """The command cannot be run."""


async def run_command(
    argv: Sequence[str], url: str, socket: str, ended: asyncio.Event, patience_s: float
) -> int:
    """Run a command to its end and return its exit code, 128 + n for a signal n.

    Each `{}` becomes the URL, which also is PYPROXY_URL in its environment. When
    `ended` is set it is asked to end, and killed after `patience_s`.
    """
    loop = asyncio.get_running_loop()
    # A terminal sends Ctrl-C to the command as well, and it is for that to decide.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    words = [word.replace("{}", url) for word in argv]
    env = {**os.environ, URL: url, SOCKET: socket}
    try:
        process = await asyncio.create_subprocess_exec(*words, env=env)
    except OSError as error:
        failed = CommandError(f"cannot run {words[0]}: {error.strerror}")
        missing = isinstance(error, FileNotFoundError)
        failed.exit_code = NOT_FOUND if missing else NOT_RUNNABLE
        raise failed from error
    killer = asyncio.create_task(_end(process, ended, patience_s))
    try:
        code = await process.wait()
    finally:
        killer.cancel()
        await asyncio.gather(killer, return_exceptions=True)
    return code if code >= 0 else 128 - code


async def _end(
    process: asyncio.subprocess.Process, ended: asyncio.Event, patience_s: float
) -> None:
    await ended.wait()
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        await asyncio.sleep(patience_s)
        process.kill()
