"""A kubelet as kube-apiserver meets it: logs, exec, attach and port-forward of one pod.

HTTPS on a port of loopback, in a thread of its own. What it executes are processes of
this machine, in a directory that is the container's; the pod's network is loopback. It
speaks SPDY alone, as every kubelet does with a kube-apiserver to which its node has not
declared `ExtendWebSocketsToKubelet`: WebSockets of clients are translated there (exec,
attach) or opened (port-forward).

*Source:* kubelet's server and `k8s.io/kubelet/pkg/cri/streaming`, release 1.36, as seen
from the outside.
"""

import asyncio
import contextlib
import http.client
import io
import json
import os
import signal
import ssl
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from pyproxy.sandbox.certificates import Pair
from tests.support.realcluster import RealCluster
from tests.support.spdy import Session, Stream
from tests.support.waiting import scaled

HOST = "127.0.0.1"
NODE, POD, CONTAINER = "node-1", "web", "main"
CHUNK = 64 * 1024
END_S = 10.0
EXEC, FORWARD = "v4.channel.k8s.io", "portforward.k8s.io"
PIPES = {"input": "stdin", "output": "stdout", "error": "stderr"}
_SWITCHING = """\
HTTP/1.1 101 Switching Protocols\r
Upgrade: SPDY/3.1\r
Connection: Upgrade\r
X-Stream-Protocol-Version: {}\r
\r
"""


@dataclass(frozen=True)
class Request:
    """What kube-apiserver asks for."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: http.client.HTTPMessage

    @property
    def what(self) -> str:
        """The first part of the path."""
        return self.path.split("/")[1]

    def is_set(self, name: str) -> bool:
        """Whether a flag of the query is."""
        return self.query.get(name, [""])[0] in ("1", "true")


class Kubelet:
    """The server, its pod's log and its pod's files; a context manager."""

    def __init__(self, directory: Path, pair: Pair, *, command: Sequence[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory  # where commands run
        self.port = 0
        self.seen: list[Request] = []
        self._command = command  # started anew for each client that attaches
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(pair.certificate, pair.key)
        self._log: list[bytes] = []
        self._loop = asyncio.new_event_loop()
        self._grown = asyncio.Condition()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubelet")
        self._serving: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None

    @property
    def busy(self) -> int:
        """Requests under way."""
        return len(self._serving)

    def write_log(self, line: str) -> None:
        """Let the container print a line."""
        self._do(self._write_log(f"{line}\n".encode()))

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._do(self._open())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._do(self._close())
        finally:
            self._stop()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(scaled(END_S))

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(scaled(END_S))
        self._loop.close()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._meet, HOST, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _write_log(self, line: bytes) -> None:
        async with self._grown:
            self._log.append(line)
            self._grown.notify_all()

    async def _meet(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(await _read_head(reader), reader, writer)
        finally:
            self._serving.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(
        self,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        upgrade = request.headers.get("Upgrade", "")
        self.seen.append(request)
        if request.what == "containerLogs":
            work = self._send_log(request, writer)
            await _first_of(work, reader.read())
            return
        assert upgrade == "SPDY/3.1", request
        protocol = FORWARD if request.what == "portForward" else EXEC
        assert protocol in str(request.headers.get_all("X-Stream-Protocol-Version"))
        writer.write(_SWITCHING.format(protocol).encode())
        session = Session(reader, writer)
        if request.what == "portForward":
            await _first_of(_forward(session), session.run())
            return
        command = (
            self._command if request.what == "attach" else request.query["command"]
        )
        execution = Execution(command, self.directory, request)
        await _first_of(execution.run(session), session.run())

    async def _send_log(self, request: Request, writer: asyncio.StreamWriter) -> None:
        # Without length and chunks it lasts as long as the connection.
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
        )
        writer.write(head)
        wanted = int(request.query.get("tailLines", [str(len(self._log))])[0])
        at = max(0, len(self._log) - wanted)
        while True:
            writer.write(b"".join(self._log[at:]))
            at = len(self._log)
            await writer.drain()
            if not request.is_set("follow"):
                return
            async with self._grown:
                while len(self._log) == at:
                    await self._grown.wait()


class Execution:
    """A command and the streams that are its standard ones."""

    def __init__(
        self, command: Sequence[str], directory: Path, request: Request
    ) -> None:
        self._command = command
        self._directory = directory
        self._names = {name for flag, name in PIPES.items() if request.is_set(flag)}

    async def run(self, session: Session) -> None:
        """Take the streams, run the command to its end and say how it ended."""
        streams: dict[str, Stream] = {}
        while streams.keys() < self._names | {"error"}:
            stream = await session.accept()
            streams[stream.headers["streamtype"]] = stream
        try:
            status = await self._execute(streams)
        except OSError as error:
            status = _failure("InternalError", str(error))
        await streams["error"].write(json.dumps(status).encode())
        await session.close()
        # The other side closes: what we have said must not be lost to a reset.
        await asyncio.sleep(scaled(END_S))

    async def _execute(self, streams: dict[str, Stream]) -> dict[str, Any]:
        async with self._started() as process:
            outputs = [
                _say(pipe, streams[name])
                for name, pipe in (
                    ("stdout", process.stdout),
                    ("stderr", process.stderr),
                )
                if pipe is not None and name in streams
            ]
            feeding = asyncio.create_task(_feed(process.stdin, streams.get("stdin")))
            try:
                await asyncio.gather(*outputs)
                code = await process.wait()
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
        if not code:
            return {"metadata": {}, "status": "Success"}
        cause = {"reason": "ExitCode", "message": str(code)}
        text = f"command terminated with non-zero exit code: {code}"
        return _failure("NonZeroExitCode", text) | {"details": {"causes": [cause]}}

    @contextlib.asynccontextmanager
    async def _started(self) -> AsyncIterator[asyncio.subprocess.Process]:
        stdin, stdout, stderr = (
            asyncio.subprocess.PIPE
            if name in self._names
            else asyncio.subprocess.DEVNULL
            for name in PIPES.values()
        )
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=self._directory,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _read_head(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    line, _, rest = head.partition(b"\r\n")
    method, target, _ = line.decode().split()
    url = urlsplit(target)
    headers = http.client.parse_headers(io.BytesIO(rest))
    return Request(method, url.path, parse_qs(url.query), headers)


async def _first_of(*works: Coroutine[Any, Any, Any]) -> None:
    """Run them until one ends; end the others."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _say(pipe: asyncio.StreamReader, stream: Stream) -> None:
    while data := await pipe.read(CHUNK):
        await stream.write(data)
    await stream.close()


async def _feed(pipe: asyncio.StreamWriter | None, stream: Stream | None) -> None:
    if pipe is None or stream is None:
        return
    with contextlib.suppress(ConnectionError):
        while data := await stream.read():
            pipe.write(data)
            await pipe.drain()
        pipe.close()
    # What the command does not want is read all the same.
    while await stream.read():
        pass


def _failure(reason: str, text: str) -> dict[str, Any]:
    return {"metadata": {}, "status": "Failure", "reason": reason, "message": text}


async def _forward(session: Session) -> None:
    """Connect each pair of streams with the port that it names."""
    waiting: dict[str, dict[str, Stream]] = {}
    async with asyncio.TaskGroup() as group:
        while True:
            stream = await session.accept()
            pair = waiting.setdefault(stream.headers["requestid"], {})
            pair[stream.headers["streamtype"]] = stream
            if len(pair) == 2:
                group.create_task(_connect(pair["data"], pair["error"]))


async def _connect(data: Stream, error: Stream) -> None:
    port = int(data.headers["port"])
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError as refused:
        await error.write(f"failed to connect to {HOST}:{port}: {refused}".encode())
    else:
        await _join(data, reader, writer)
    await data.close()
    await error.close()


async def _join(
    data: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    async def upload() -> None:
        while part := await data.read():
            writer.write(part)
            await writer.drain()
        writer.write_eof()

    try:
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(upload(), _say(reader, data))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def run_pod(cluster: RealCluster, kubelet: Kubelet) -> None:
    """Make the node that is this kubelet, and a running pod on it."""
    merge = "application/merge-patch+json"
    node = {"metadata": {"name": NODE}}
    ports = {"kubeletEndpoint": {"Port": kubelet.port}}
    address = {"type": "InternalIP", "address": HOST}
    status = {"addresses": [address], "daemonEndpoints": ports}
    cluster.call("POST", "/api/v1/nodes", node)
    cluster.call("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, merge)
    containers = [{"name": CONTAINER, "image": "none", "stdin": True}]
    pod = {
        "metadata": {"name": POD},
        "spec": {"nodeName": NODE, "containers": containers},
    }
    pods = "/api/v1/namespaces/default/pods"
    cluster.call("POST", pods, pod)
    running = {"status": {"phase": "Running", "podIP": HOST}}
    cluster.call("PATCH", f"{pods}/{POD}/status", running, merge)
