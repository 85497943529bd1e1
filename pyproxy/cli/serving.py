"""How a command becomes a running mode: settings, log, sockets, then the mode."""

import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pyproxy.cli.flags import named_after

if TYPE_CHECKING:
    from pyproxy.config import ModeConfig
    from pyproxy.runtime import Runtime

M = TypeVar("M", bound="ModeConfig")
Run = Callable[[M, "Runtime[M]"], Coroutine[Any, Any, None]]


def serve(
    file: Path | None, load: Callable[[], M], mode: str, run: "Run[M]"
) -> NoReturn:
    """Serve until a signal, and end the process with the mode's exit code.

    What `load` and the start complain about begins with the name of `file`.

    Raises:
        SystemExit: in the end.
        ConfigError, StartError: before anything was served.
    """
    # Here, as in every command: `--help` and TAB need none of it.
    from pyproxy import logs
    from pyproxy.activation import Sockets
    from pyproxy.handover import Predecessor
    from pyproxy.runtime import Runtime, launch

    settings = load()
    logs.setup(settings.log.level, settings.log.format)
    sockets = Sockets.take(os.environ)
    path = settings.handover_socket
    predecessor = Predecessor.ask(path) if path else None
    runtime = Runtime(mode, settings, load, sockets, predecessor)

    async def life() -> int:
        await run(settings, runtime)
        return runtime.exit_code

    with named_after(file):
        raise SystemExit(launch(life()))
