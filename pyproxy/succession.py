"""Sockets over the life of processes: from before us, with us, to who comes after.

Before: a supervisor passed some, or a predecessor hands its own over. After: a
successor asks for them, or a supervisor keeps them. `runtime` says when.
"""

import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pyproxy.activation import Sockets
from pyproxy.config import ModeConfig
from pyproxy.dataplane import Dataplane
from pyproxy.errors import StartError
from pyproxy.handover import Handover, Predecessor
from pyproxy.notify import Notifier
from pyproxy.passing import PassableDataplane, Passed

logger = logging.getLogger(__name__)


class Succession:
    """Who listened before this process, and who will after it."""

    def __init__(
        self,
        config: ModeConfig,
        sockets: Sockets,
        predecessor: Predecessor | None,
        notifier: Notifier,
    ) -> None:
        """Own sockets and predecessor."""
        self._path, self._ready_file = config.handover_socket, config.ready_file
        self.sockets = sockets
        self._predecessor = predecessor
        self._notifier = notifier
        self._passed = Passed()
        self._given = list(sockets.names)
        self._answered: set[str] = set()  # of those, by Python

    @property
    def has_predecessor(self) -> bool:
        """Whether another process serves until we do."""
        return self._predecessor is not None

    def open_dataplane(self, workers: int | None) -> Dataplane:
        """Start a core that listens as others left it. Raise StartError."""
        if not self._path and not self._notifier.stores:
            plain = Dataplane.open(workers)
            plain.sockets = self.sockets.by_key
            return plain
        if self._predecessor is not None:
            self._passed.expect(self._predecessor.sockets)
        return PassableDataplane.passing(workers, self._passed, self.sockets.by_key)

    def listen(self, host: str, port: int) -> list[socket.socket]:
        """Return sockets at an IP for something in Python to answer on; it owns them.

        They come from a supervisor or predecessor, if they have some. Raise OSError.
        """
        before = set(self.sockets.names)
        given = self.sockets.take_one((host, port))
        self._answered |= before.difference(self.sockets.names)
        for each in given:
            each.setblocking(False)
        return self._passed.listen(host, port, given)

    @asynccontextmanager
    async def serving(self, on_taken: Callable[[], None]) -> AsyncIterator[None]:
        """Serve in the place of the predecessor; wait for a successor meanwhile.

        `on_taken` learns that it serves. Raise StartError.
        """
        self._passed.forget_rest()
        wanted = {*self.sockets.names, *self._answered}
        self._notifier.forget_stored(name for name in self._given if name not in wanted)
        handover = Handover(self._path, self._passed.all, on_taken)
        try:
            if self._path:
                handover.open()
            self._write_ready_file()
            # From here on nothing can fail: the other one stops accepting.
            if self._predecessor is not None:
                self._predecessor.say_serving()
            yield
        finally:
            await handover.close()
            self._remove_ready_file()

    def keep(self) -> None:
        """Let the supervisor have what listens, if it keeps such things."""
        self._notifier.store(self._passed.all())

    def close(self) -> None:
        """Close what is owned; what others hold of it goes on. May be repeated."""
        self.sockets.close()
        self._passed.close_all()
        if self._predecessor is not None:
            self._predecessor.close()

    def _write_ready_file(self) -> None:
        if not self._ready_file:
            return
        try:
            Path(self._ready_file).write_text(f"{os.getpid()}\n")
        except OSError as error:
            failed = f"cannot write {self._ready_file}: {error.strerror}"
            raise StartError(failed) from error

    def _remove_ready_file(self) -> None:
        if self._ready_file:
            with contextlib.suppress(OSError):
                os.unlink(self._ready_file)
