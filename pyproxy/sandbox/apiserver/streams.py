"""exec over a WebSocket: `v5.channel.k8s.io` and `v4.channel.k8s.io`.

Each message begins with the number of its channel. What a command returns goes as a
Status over the error channel. v5 can also say that a channel has ended: stdin's EOF.
"""

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from pyproxy.sandbox.apiserver.commands import NOT_FOUND, NoSuchProgram, Shell, Streams
from pyproxy.sandbox.apiserver.pods import Log
from pyproxy.sandbox.apiserver.refusal import bad_request
from pyproxy.sandbox.apiserver.schema import Object

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)
CLOSE = 255
QUEUED = 16  # messages of stdin; then the client has to wait
INTERRUPT, END, ERASE = 3, 4, 127  # what a terminal makes of ^C, ^D and backspace


@dataclass(slots=True)
class Channels:
    """The streams of one exec."""

    socket: web.WebSocketResponse
    is_terminal: bool = False
    stdin: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(QUEUED))
    _has_ended: bool = False

    async def read(self) -> bytes:
        """Return what came on stdin; b"" at its end."""
        if self._has_ended:
            return b""
        data = await self.stdin.get()
        self._has_ended = not data
        return data

    async def write(self, data: bytes) -> None:
        """Write to stdout."""
        await self._send(STDOUT, data)

    async def write_error(self, data: bytes) -> None:
        """Write to stderr."""
        await self._send(STDERR, data)

    async def finish(self, status: Object) -> None:
        """Say how it ended."""
        await self._send(ERROR, json.dumps(status).encode())

    async def feed(self) -> None:
        """Take what the client sends; returns when it has gone."""
        async for message in self.socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == STDIN and data:
                await self.stdin.put(data)
            elif channel == CLOSE and data[:1] == bytes([STDIN]):
                await self.stdin.put(b"")

    async def _send(self, channel: int, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            await self.socket.send_bytes(bytes([channel]) + data)


@dataclass(slots=True)
class Terminal:
    """A line discipline in front of a client that sends single keys."""

    inner: Channels
    is_terminal: bool = True
    _line: bytearray = field(default_factory=bytearray)
    _has_ended: bool = False

    async def read(self) -> bytes:
        """Return the next line; b"" after ^D."""
        while not self._has_ended:
            keys = await self.inner.read()
            if not keys:
                break
            if line := await self._type(keys):
                return line
        return b""

    async def _type(self, keys: bytes) -> bytes:
        done = b""
        for key in keys:
            if key in b"\r\n":
                await self.inner.write(b"\r\n")
                done += bytes(self._line) + b"\n"
                self._line.clear()
            elif key == INTERRUPT:
                await self.inner.write(b"^C\r\n")
                self._line.clear()
                done += b"\n"
            elif key == END and not self._line:
                self._has_ended = True
            elif key == ERASE and self._line:
                self._line.pop()
                await self.inner.write(b"\b \b")
            elif key >= 32 and key != ERASE:
                self._line.append(key)
                await self.inner.write(bytes([key]))
        return done

    async def write(self, data: bytes) -> None:
        """Write to the one output that a terminal has."""
        await self.inner.write(data.replace(b"\n", b"\r\n"))

    async def write_error(self, data: bytes) -> None:
        """Write to the same."""
        await self.write(data)


async def execute(
    request: web.BaseRequest,
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Log,
    *,
    is_terminal: bool,
) -> web.WebSocketResponse:
    """Run a command of a container for a client.

    Raises:
        Refusal: the client does not speak WebSocket, or asked for nothing.
    """
    if not command:
        raise bad_request("you must specify at least 1 command for the container")
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise bad_request("Upgrade request required: websocket, v5.channel.k8s.io")
    socket = web.WebSocketResponse(
        protocols=PROTOCOLS, max_msg_size=0, compress=False, timeout=1.0
    )
    await socket.prepare(request)
    channels = Channels(socket)
    streams: Streams = Terminal(channels) if is_terminal else channels
    run = asyncio.create_task(_status(command, streams, environment, log))
    feed = asyncio.create_task(channels.feed())
    try:
        await asyncio.wait((run, feed), return_when=asyncio.FIRST_COMPLETED)
        if run.done():
            await channels.finish(run.result())
    finally:
        for task in (run, feed):
            task.cancel()
        await asyncio.gather(run, feed, return_exceptions=True)
        await socket.close()
    return socket


async def _status(
    command: Sequence[str], streams: Streams, environment: Mapping[str, str], log: Log
) -> Object:
    try:
        code = await Shell(streams, environment, log.write).run(command)
    except NoSuchProgram:
        what = f'exec: "{command[0]}": executable file not found in $PATH\n'
        await streams.write_error(what.encode())
        code = NOT_FOUND
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    what = f"error executing command {list(command)}, exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {what}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
