"""Listening sockets pass from a running process to its successor: nobody is refused.

Both have the same unix socket in their settings. A process that starts asks there for
the sockets of the one that runs, serves on them, and says so; only then the other one
stops accepting, and serves its connections until they end. A successor that fails
before leaves everything as it was.

::

    successor                         predecessor, at PATH
    connect          ------------->   same user, or root?
                     <-------------   sockets with their addresses, 1..n messages
    starts, serves
    "serving"        ------------->   stops accepting; its connections go on
    takes the name PATH

A client is in the queue of a socket, not of a process. So it does not matter which of
the two accepts it while both have the socket.
"""

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable, Sequence

import msgspec

from pyproxy.errors import StartError
from pyproxy.model import Key

logger = logging.getLogger(__name__)

PER_MESSAGE = 200  # descriptors; the kernel's SCM_MAX_FD is 253
MOST_BYTES = 1 << 16  # of a message
ANSWER_S = 5.0
SERVING = b"serving"
_CREDENTIALS = struct.Struct("3i")  # struct ucred

Named = tuple[Key, socket.socket]


class Message(msgspec.Struct):
    """What goes with some descriptors: where each of them listens."""

    sockets: list[Key]
    more: bool = False


_decoder = msgspec.json.Decoder(Message)


class Predecessor:
    """The process that runs already; owns the connection to it."""

    def __init__(self, connection: socket.socket, sockets: list[Named]) -> None:
        self._connection = connection
        self.sockets = sockets  # whoever takes one owns it

    @classmethod
    def ask(cls, path: str) -> "Predecessor | None":
        """Ask for its sockets; None if there is no such process. Waits for seconds.

        Raises:
            StartError: there is one, and it does not answer as it should.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(path)
            sockets = _receive(connection)
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        except (OSError, ValueError) as error:
            connection.close()
            why = f"no sockets from the process at {path}: {error}"
            raise StartError(why, "end it, or remove that file") from error
        logger.info("sockets taken over", extra={"count": len(sockets), "from": path})
        return cls(connection, sockets)

    def say_serving(self) -> None:
        """Let it stop accepting."""
        with contextlib.suppress(OSError):  # it has ended in the meantime
            self._connection.send(SERVING)
        self.close()

    def close(self) -> None:
        """Without `say_serving` it goes on as if nobody had asked."""
        self._connection.close()


def _receive(connection: socket.socket) -> list[Named]:
    """Raise ValueError for what is no answer of ours."""
    found: list[Named] = []
    made: list[socket.socket] = []  # of one message
    try:
        while True:
            data, fds, flags, _ = socket.recv_fds(connection, MOST_BYTES, PER_MESSAGE)
            made = [socket.socket(fileno=fd) for fd in fds]
            if not data:
                raise ValueError("it hung up")
            said = _read(data)
            if flags & socket.MSG_CTRUNC or len(said.sockets) != len(made):
                raise ValueError("sockets are missing")
            found += zip(said.sockets, made, strict=True)
            made = []
            if not said.more:
                return found
    except (OSError, ValueError):
        for each in [*made, *(each for _, each in found)]:
            each.close()
        raise


def _read(data: bytes) -> Message:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValueError(str(error)) from error


class Handover:
    """Waits at a unix socket for a successor."""

    def __init__(
        self,
        path: str,
        give: Callable[[], Sequence[Named]],
        on_taken: Callable[[], None],
    ) -> None:
        """`give` returns sockets, which stay its own; `on_taken`: they are served."""
        self._path = path
        self._give, self._on_taken = give, on_taken
        self._listener: socket.socket | None = None
        self._inode = 0
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Take the name, from a predecessor too, and wait. Raise StartError."""
        beside = f"{self._path}.{os.getpid()}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.setblocking(False)
        before = os.umask(0o177)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            listener.bind(beside)
            listener.listen(1)
            self._inode = os.stat(beside).st_ino
            os.rename(beside, self._path)
        except OSError as error:
            listener.close()
            why = f"cannot wait for a successor at {self._path}: {error.strerror}"
            raise StartError(why) from error
        finally:
            os.umask(before)
        self._listener = listener
        self._task = asyncio.create_task(self._wait(listener), name="handover")

    async def close(self) -> None:
        """Wait no more; remove the name unless a successor has it. May be repeated."""
        task, self._task = self._task, None
        listener, self._listener = self._listener, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if listener is not None:
            listener.close()
            with contextlib.suppress(OSError):
                if os.stat(self._path).st_ino == self._inode:
                    os.unlink(self._path)

    async def _wait(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            with connection:
                try:
                    if await self._serve(connection):
                        self._on_taken()
                        return
                except OSError as error:
                    why = error.strerror or str(error)
                    logger.warning("sockets not handed over", extra={"why": why})

    async def _serve(self, connection: socket.socket) -> bool:
        """Return whether the successor serves."""
        if not is_trusted(connection):
            logger.warning("sockets not handed over", extra={"why": "another user"})
            return False
        sockets = list(self._give())
        connection.settimeout(ANSWER_S)
        await asyncio.to_thread(_send, connection, sockets)
        logger.info("sockets handed over", extra={"count": len(sockets)})
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        said = await loop.sock_recv(connection, len(SERVING))
        if said != SERVING:
            logger.warning("the successor has failed, going on")
        return said == SERVING


def _send(connection: socket.socket, sockets: Sequence[Named]) -> None:
    starts = range(0, max(1, len(sockets)), PER_MESSAGE)
    for start in starts:
        some = sockets[start : start + PER_MESSAGE]
        more = start + PER_MESSAGE < len(sockets)
        said = msgspec.json.encode(Message([key for key, _ in some], more))
        socket.send_fds(connection, [said], [each.fileno() for _, each in some])


def is_trusted(connection: socket.socket) -> bool:
    """Whether the other side runs as this user, or as root."""
    raw = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
    )
    _, user, _ = _CREDENTIALS.unpack(raw)
    return user in (0, os.geteuid())
