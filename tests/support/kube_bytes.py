"""A wire that is nothing but bytes: what a request gets, in parts that a test chose."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from tests.support.kube_time import FakeTime

Answers = Callable[[Mapping[str, str]], Iterable[bytes]]


class Content:
    """The body of a response."""

    def __init__(
        self, parts: Iterator[bytes], idle: asyncio.Event, *, ends: bool
    ) -> None:
        self._parts, self._idle, self._ends = parts, idle, ends

    async def readany(self) -> bytes:
        """Return the next part; at the end, b"" or nothing for ever."""
        part = next(self._parts, b"")
        if not part and not self._ends:
            self._idle.set()
            await asyncio.Event().wait()
        return part


class Response:
    """A response of which only the body is looked at."""

    def __init__(self, content: Content) -> None:
        self.content = content


class BytesWire:
    """Stands in for `Wire` where a reflector uses one."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.clock = FakeTime()
        self.access = SimpleNamespace(server=None)
        self.idle = asyncio.Event()  # a watch has given all it has

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, params: Mapping[str, str]
    ) -> AsyncIterator[Any]:
        """Answer a request."""
        parts = iter(self._answers(params))
        yield Response(Content(parts, self.idle, ends="watch" not in params))
