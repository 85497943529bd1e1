"""Where objects begin and end in a stream of bytes, without I/O.

A watch is lines. A list is one JSON document, and decoding a page of 500 objects in one
call would hold the event loop for a tenth of a second. So `ListReader` cuts it into its
items as the bytes come. It need not parse for that: an item begins as the first one did
(`{"metadata":`), quotes inside strings are escaped, and what was cut at the wrong
place, inside a nested list, does not decode and is taken together with what follows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from pyproxy.kube.objects import ListMeta, Object, ObjectMeta
from pyproxy.kube.resource import Resource

MAX_BYTES = 32 << 20  # of an object on the wire; etcd takes 1.5 MiB

T = TypeVar("T", bound=Object)

_ITEMS = b'"items":['
_FIRST_KEY = re.compile(rb'\{"\w+":')
_TRIES = 64  # to find where the last item ends; the first one hits, mostly


class MalformedError(ValueError):
    """The bytes are none of the API's."""


@dataclass(frozen=True, slots=True)
class Unread:
    """An object whose fields are not as we know them; it may be newer than we are."""

    metadata: ObjectMeta
    why: str


class _Envelope(msgspec.Struct, frozen=True):
    """A list without its items."""

    metadata: ListMeta = ListMeta()


class _Any(msgspec.Struct, frozen=True):
    """A list with its items as they came."""

    items: tuple[msgspec.Raw, ...] | None = None
    metadata: ListMeta = ListMeta()


_envelope = msgspec.json.Decoder(_Envelope)
_any = msgspec.json.Decoder(_Any)
_bare = msgspec.json.Decoder(Object)


class LineReader:
    """Cuts bytes into lines; one that is too long raises MalformedError."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take what came and return the lines that are complete, none of them empty."""
        first, *more = chunk.split(b"\n")
        self._parts.append(first)
        self._size += len(first)
        if self._size > self._limit:
            raise MalformedError(f"a line of more than {self._limit >> 20} MiB")
        if not more:
            return []
        lines = [b"".join(self._parts), *more[:-1]]
        self._parts, self._size = [more[-1]], len(more[-1])
        return [line for line in lines if line.strip()]

    @property
    def is_amid_a_line(self) -> bool:
        """Whether something came whose end has not."""
        return self._size > 0


class ListReader(Generic[T]):
    """Reads one list, or one page of it, as its bytes come."""

    def __init__(self, resource: Resource[T], limit: int = MAX_BYTES) -> None:
        self._decoder = resource.decoder
        self._limit = limit
        self._rest = bytearray()  # what was not given out yet
        self._head: bytes | None = None  # all before the items; None = still in it
        self._boundary: bytes | None = None  # between two items

    def feed(self, chunk: bytes) -> Iterator[T | Unread]:
        """Take what came and yield the items that are complete."""
        self._rest += chunk
        if self._head is None and not self._find_items():
            self._check_size(0)
            return
        if self._boundary is None and not self._find_boundary():
            self._check_size(0)
            return
        assert self._boundary is not None
        start = 0
        # The boundary may have begun in an earlier chunk.
        at = max(0, len(self._rest) - len(chunk) - len(self._boundary))
        while (at := self._rest.find(self._boundary, at)) >= 0:
            item = self._read(self._rest[start : at + 1])
            at += 2
            if item is not None:
                start = at
                yield item
        del self._rest[:start]
        self._check_size(start)

    def finish(self) -> Iterator[T | Unread | ListMeta]:
        """Yield the last item, and then what the list says of itself."""
        if self._head is None:
            yield from self._whole()
            return
        end = 0
        if not self._rest.lstrip().startswith(b"]"):
            item, end = self._last_item()
            if item is None:
                yield from self._whole()
                return
            yield item
        yield self._meta(self._head + _ITEMS + self._rest[end:].lstrip())

    def _last_item(self) -> tuple[T | Unread | None, int]:
        """Return the last item and where it ends; None = it could not be found."""
        end = len(self._rest)
        for _ in range(_TRIES if self._boundary else 0):
            end = self._rest.rfind(b"}]", 0, end)
            if end < 0:
                break
            if (item := self._read(self._rest[: end + 1])) is not None:
                return item, end + 1
        return None, 0

    def _whole(self) -> Iterator[T | Unread | ListMeta]:
        """Read what could not be cut up: from a server that writes otherwise."""
        head = self._head + _ITEMS if self._head is not None else b""
        try:
            found = _any.decode(head + bytes(self._rest))
        except msgspec.DecodeError as error:
            raise MalformedError(f"no list: {error}") from error
        for raw in found.items or ():
            item = self._read(bytes(raw))
            if item is None:
                raise MalformedError("an item without metadata")
            yield item
        yield found.metadata

    def _meta(self, raw: bytes | bytearray) -> ListMeta:
        try:
            return _envelope.decode(raw).metadata
        except msgspec.DecodeError as error:
            raise MalformedError(f"no list: {error}") from error

    def _find_items(self) -> bool:
        at = self._rest.find(_ITEMS)
        if at < 0:
            return False
        self._head = bytes(self._rest[:at])
        del self._rest[: at + len(_ITEMS)]
        return True

    def _find_boundary(self) -> bool:
        found = _FIRST_KEY.match(self._rest)
        if found is None:
            return False
        self._boundary = b"}," + found.group()
        return True

    def _read(self, raw: bytes | bytearray) -> T | Unread | None:
        """Return what the bytes are; None if they are not one whole object."""
        try:
            return self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            try:
                return Unread(_bare.decode(raw).metadata, str(error))
            except msgspec.DecodeError:
                return None
        except msgspec.DecodeError:
            return None

    def _check_size(self, given: int) -> None:
        if not given and len(self._rest) > self._limit:
            raise MalformedError(f"an object of more than {self._limit >> 20} MiB")
