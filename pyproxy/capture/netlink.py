"""Netlink, as far as nftables, routes and rules need it: attributes, requests, answers.

Spoken directly: pyroute2 takes 0.27 ms to encode an element of a set, eight seconds
for 30,000 of them, and does not run on uvloop; libnftables crashes, within its caller,
on rules that a newer nft wrote. The kernel answers within sendmsg(2), so that nothing
here waits for anything.
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

NETFILTER = 12  # NETLINK_NETFILTER
ROUTE = 0  # NETLINK_ROUTE

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300  # flags of a message
EXCLUSIVE, CREATE, APPEND = 0x200, 0x400, 0x800
INTERRUPTED = 0x10  # a dump that does not fit together: ask again
ERROR, DONE = 2, 3  # kinds of a message
NESTED = 0x8000
KIND = 0x3FFF  # of an attribute, without its flags

HEADER = struct.Struct("=IHHII")  # length, kind, flags, sequence, sender
ATTRIBUTE = struct.Struct("=HH")  # length, kind
PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")  # by length modulo 4
SOL_NETLINK, CAP_ACK, EXT_ACK = 270, 10, 11
ERROR_TEXT = 1  # NLMSGERR_ATTR_MSG
RECEIVE_BYTES = 1 << 18
MOST_DUMPS = 10  # until one is not interrupted


class Message(NamedTuple):
    """One that the kernel sent."""

    kind: int
    flags: int
    sequence: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    length = 4 + len(value)
    return ATTRIBUTE.pack(length, kind) + value + PADDING[length % 4]


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds others."""
    return attribute(kind | NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a string."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute that holds 32 bits in network order, as nftables has them."""
    return attribute(kind, value.to_bytes(4, "big"))


def native(kind: int, value: int) -> bytes:
    """An attribute that holds 32 bits in the machine's order, as routes have them."""
    return attribute(kind, struct.pack("=I", value))


def pairs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each attribute in `data`."""
    at = 0
    while at + 4 <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield kind & KIND, data[at + 4 : at + length]
        at += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by kind."""
    return dict(pairs(data))


def string(value: bytes) -> str:
    """What `text` wrote."""
    return value.rstrip(b"\0").decode(errors="replace")


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A whole message. Bodies are padded already."""
    return HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body


class Netlink:
    """One socket to the kernel, in the network namespace of the thread that made it.

    Raises:
        OSError: what the kernel answered, with its explanation where it has one.
    """

    def __init__(self, protocol: int) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        for option in (CAP_ACK, EXT_ACK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def next_sequence(self) -> int:
        """A number for the next message; answers carry it."""
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        return self._sequence

    def change(self, kind: int, flags: int, body: bytes) -> None:
        """Ask for one change."""
        sequence = self.next_sequence()
        self.send(message(kind, REQUEST | ACK | flags, sequence, body))
        for answer in self.answers():
            raise_error(answer)

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Ask for all there is, and return the bodies of the answers."""
        found: list[bytes] = []
        for _ in range(MOST_DUMPS):
            sequence = self.next_sequence()
            self.send(message(kind, REQUEST | DUMP, sequence, body))
            whole, found = self._dumped(sequence)
            if whole:
                break
        return found

    def _dumped(self, sequence: int) -> tuple[bool, list[bytes]]:
        """Whether the answers fit together, and the answers."""
        found: list[bytes] = []
        whole = True
        while True:
            for answer in split(self._socket.recv(RECEIVE_BYTES)):
                if answer.sequence != sequence:
                    continue
                whole = whole and not answer.flags & INTERRUPTED
                if answer.kind == DONE:
                    return whole, found
                raise_error(answer)
                found.append(answer.body)

    def get(self, kind: int, body: bytes) -> bytes:
        """Ask for one thing."""
        self.send(message(kind, REQUEST, self.next_sequence(), body))
        answer = next(split(self._socket.recv(RECEIVE_BYTES)))
        raise_error(answer)
        return answer.body

    def send(self, data: bytes) -> None:
        """Send messages as one datagram; the kernel takes all or nothing of its size.

        CAP_NET_ADMIN lifts the limit of the buffer; without it nothing that needs
        a large one is allowed anyway.
        """
        if len(data) > self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) / 2:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 2 * len(data))
        self._socket.send(data)

    def answers(self) -> list[Message]:
        """What the kernel has answered by now."""
        found: list[Message] = []
        while True:
            try:
                data = self._socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            found += split(data)


SO_SNDBUFFORCE = 32  # not among the names of Python's module


def split(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, at)
        if length < 16:
            return
        yield Message(kind, flags, sequence, data[at + 16 : at + length])
        at += (length + 3) & ~3


def raise_error(answer: Message) -> None:
    """Raise what `answer` reports; an acknowledgement reports nothing."""
    if answer.kind != ERROR:
        return
    code = -struct.unpack_from("=i", answer.body)[0]
    if code:
        # The header of the request comes first (NETLINK_CAP_ACK: without its body).
        said = string(attributes(answer.body[20:]).get(ERROR_TEXT, b""))
        why = os.strerror(code)
        raise OSError(code, f"{why} ({said})" if said else why)


def first_error(answers: Sequence[Message]) -> OSError | None:
    """The first error that `answers` report."""
    for answer in answers:
        try:
            raise_error(answer)
        except OSError as error:
            return error
    return None
