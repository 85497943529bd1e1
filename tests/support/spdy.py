"""SPDY/3.1 as kubelets speak it: one side that is called, a few streams, no push.

kube-apiserver and kubectl open the streams; each has headers that say what it is for,
and carries bytes both ways until either side has said its last. Windows are not kept:
the other side (moby/spdystream) neither opens nor minds them. A stream that nobody
reads stops its connection, as there.

*Source:* SPDY Protocol, Draft 3.1. No library on PyPI serves: what there is only reads.
"""

import asyncio
import contextlib
import struct
import zlib
from typing import Final

SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
CONTROL: Final = 0x8003 << 16  # the first bit, and the version
FIN: Final = 1
STREAM_ID: Final = 0x7FFF_FFFF
CHUNK: Final = 32 * 1024
UNREAD: Final = 32  # frames of one stream

# 2.6.10.1: what a compressor of headers begins with. First words with their length,
# then text without.
_WORDS = """\
options head post put delete trace accept accept-charset accept-encoding accept-language
accept-ranges age allow authorization cache-control connection content-base
content-encoding content-language content-length content-location content-md5
content-range content-type date etag expect expires from host if-match if-modified-since
if-none-match if-range if-unmodified-since last-modified location max-forwards pragma
proxy-authenticate proxy-authorization range referer retry-after server te trailer
transfer-encoding upgrade user-agent vary via warning www-authenticate method get status
200_OK version HTTP/1.1 url public set-cookie keep-alive origin"""
_TEXT = (
    "10010120120220520630030230330430530630740240540640740840941041141241341441541641"
    "7502504505203 Non-Authoritative Information204 No Content301 Moved Permanently40"
    "0 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error"
    "501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept O"
    "ct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,imag"
    "e/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/"
    "javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1"
    ",utf-,*,enq=0."
)


def _counted(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()


DICTIONARY: Final = (
    b"".join(_counted(word.replace("_", " ")) for word in _WORDS.split())
    + _TEXT.encode()
)


class Stream:
    """One stream of a session."""

    def __init__(
        self, number: int, headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> None:
        self.headers = headers  # names in lower case
        self._number = number
        self._writer = writer
        self._frames = asyncio.Queue[bytes](UNREAD)
        self._has_ended = False  # for the reader
        self._is_closed = False  # for us, the writer

    async def read(self) -> bytes:
        """Return what came next; empty at the end."""
        if self._has_ended:
            return b""
        data = await self._frames.get()
        self._has_ended = not data
        return data

    async def write(self, data: bytes) -> None:
        """Send; nothing is sent to a stream that was reset."""
        for start in range(0, len(data), CHUNK):
            await self._send(data[start : start + CHUNK])

    async def close(self) -> None:
        """Say that nothing follows."""
        await self._send(b"", FIN)
        self._is_closed = True

    async def take(self, data: bytes, *, is_last: bool) -> None:
        """Give what came to the reader."""
        if data:
            await self._frames.put(data)
        if is_last:
            await self._frames.put(b"")

    def reset(self) -> None:
        """Forget the stream: the other side has."""
        self._is_closed = True
        while not self._frames.empty():
            self._frames.get_nowait()
        self._frames.put_nowait(b"")

    async def _send(self, data: bytes, flags: int = 0) -> None:
        if not self._is_closed:
            head = struct.pack(">II", self._number, flags << 24 | len(data))
            self._writer.write(head + data)
            await self._writer.drain()


class Session:
    """A connection of streams that the other side opens."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader, self._writer = reader, writer
        self._streams: dict[int, Stream] = {}
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._opened = asyncio.Queue[Stream]()

    async def accept(self) -> Stream:
        """Return the next stream that is opened."""
        return await self._opened.get()

    async def run(self) -> None:
        """Read frames until the connection ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first, second = struct.unpack(">II", await self._reader.readexactly(8))
                flags, length = second >> 24, second & 0xFF_FFFF
                body = await self._reader.readexactly(length)
                if first & CONTROL == CONTROL:
                    await self._control(first & 0xFFFF, flags, body)
                elif first in self._streams:
                    is_last = bool(flags & FIN)
                    await self._streams[first].take(body, is_last=is_last)

    async def close(self) -> None:
        """Close every stream and say that no more are taken."""
        for stream in self._streams.values():
            await stream.close()
        last = max(self._streams, default=0)
        await self._send(GOAWAY, struct.pack(">II", last, 0))

    async def _control(self, kind: int, flags: int, body: bytes) -> None:
        if kind == SYN_STREAM:
            await self._open(flags, body)
        elif kind == RST_STREAM:
            stream = self._streams.get(_number(body))
            if stream is not None:
                stream.reset()
        elif kind == PING:
            await self._send(PING, body)

    async def _open(self, flags: int, body: bytes) -> None:
        number = _number(body)
        stream = Stream(number, self._headers(body[10:]), self._writer)
        self._streams[number] = stream
        none = self._deflate.compress(bytes(4)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        await self._send(SYN_REPLY, struct.pack(">I", number) + none)
        if flags & FIN:
            await stream.take(b"", is_last=True)
        self._opened.put_nowait(stream)

    def _headers(self, block: bytes) -> dict[str, str]:
        plain, texts = self._inflate.decompress(block), []
        at = 4
        for _ in range(2 * _number(plain)):
            length = _number(plain[at:])
            texts.append(plain[at + 4 : at + 4 + length].decode())
            at += 4 + length
        return dict(zip(texts[::2], texts[1::2], strict=True))

    async def _send(self, kind: int, body: bytes) -> None:
        self._writer.write(struct.pack(">II", CONTROL | kind, len(body)) + body)
        await self._writer.drain()


def _number(data: bytes) -> int:
    return int(struct.unpack_from(">I", data)[0]) & STREAM_ID
