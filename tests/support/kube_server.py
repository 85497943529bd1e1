"""An API server that does what a test tells it, byte by byte; and ways to reach one."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from pyproxy.kube.config import ClientFlags, Clock, Current
from pyproxy.kube.wire import Wire
from tests.support.waiting import PAUSE_S, scaled

NOWHERE = {"HOME": "/nonexistent"}  # an environment without a kubeconfig


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_watch(self) -> bool:
        """Whether it wants a watch."""
        return "watch" in self.query


@dataclass
class Answer:
    """The response to one request, written as the test likes."""

    writer: asyncio.StreamWriter
    has_begun: bool = False
    is_cut: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # the client has

    def begin(self, status: int = 200, **headers: str) -> None:
        """Send the head."""
        self.has_begun = True
        lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json"]
        lines += [f"{name.replace('_', '-')}: {v}" for name, v in headers.items()]
        lines += ["Transfer-Encoding: chunked", "", ""]
        self.writer.write("\r\n".join(lines).encode())

    async def send(self, data: bytes) -> None:
        """Send some of the body."""
        if not self.has_begun:
            self.begin()
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def document(self, document: object, status: int = 200, **head: str) -> None:
        """Send one document."""
        self.begin(status, **head)
        await self.send(dumps(document))

    async def event(self, kind: str, made: object) -> None:
        """Send a line of a watch."""
        await self.send(line(kind, made))

    def cut(self) -> None:
        """Break the connection off."""
        self.is_cut = True
        self.writer.transport.abort()


Handler = Callable[[Asked, Answer], Awaitable[None]]


class Script:
    """Serves whatever `handler` does; an asynchronous context manager."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[Asked] = []
        self._server: asyncio.Server | None = None
        self._live: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def watches(self) -> list[Asked]:
        """All requests for a watch."""
        return [asked for asked in self.asked if asked.is_watch]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._live:
            task.cancel()
        await asyncio.gather(*self._live, return_exceptions=True)

    def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._live.add(task)
        task.add_done_callback(self._live.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while asked := await _read(reader):
                self.asked.append(asked)
                answer = Answer(writer)
                await self.handler(asked, answer)
                if answer.is_cut:
                    return
                writer.write(b"0\r\n\r\n")
        except OSError:
            return
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, OSError):
        return None
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (text.partition(":") for text in lines if text)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    url = urlsplit(target)
    return Asked(method, url.path, dict(parse_qsl(url.query)), headers, body)


def dumps(document: object) -> bytes:
    """Write JSON as Go does: no blanks, a newline at the end."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def line(kind: str, made: object) -> bytes:
    """Return a line of a watch."""
    return dumps({"type": kind, "object": made})


def service(name: str, version: int, **spec: Any) -> dict[str, Any]:
    """Return a Service of the namespace x."""
    metadata = {"name": name, "namespace": "x", "uid": f"u-{name}"}
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {**metadata, "resourceVersion": str(version)},
        "spec": {"clusterIP": "10.96.0.9", **spec},
    }


def listed(items: list[dict[str, Any]], version: int, token: str = "") -> object:
    """Return a list of Services, or a page of it. Items carry no kind there."""
    bare = [
        {k: v for k, v in i.items() if k not in ("kind", "apiVersion")} for i in items
    ]
    metadata = {"resourceVersion": str(version)}
    if token:
        metadata["continue"] = token
    return {
        "kind": "ServiceList",
        "apiVersion": "v1",
        "metadata": metadata,
        "items": bare,
    }


def bookmark(version: int, *, ends_list: bool = False) -> dict[str, Any]:
    """Return the object of a bookmark."""
    metadata: dict[str, Any] = {"resourceVersion": str(version)}
    if ends_list:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"kind": "Service", "apiVersion": "v1", "metadata": metadata}


def status(code: int, reason: str, message: str = "", **details: Any) -> dict[str, Any]:
    """Return a Status that refuses."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or reason,
        "reason": reason,
        "code": code,
        **({"details": details} if details else {}),
    }


def wire_to(url: str, clock: Clock | None = None, **flags: str) -> Wire:
    """Return a way to a server."""
    current = Current(ClientFlags(server=url, **flags), NOWHERE)  # type: ignore[arg-type]
    return Wire(current, clock=clock)


async def until(condition: Callable[[], object], deadline_s: float = 5.0) -> None:
    """Wait until something holds."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + scaled(deadline_s)
    while not condition():
        assert loop.time() < ends_at, f"not within {deadline_s:g} s"
        await asyncio.sleep(PAUSE_S)
