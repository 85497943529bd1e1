"""Transactions of nftables: packets see all of one or nothing."""

import struct
from collections.abc import Iterable, Iterator, Sequence

from pyproxy.capture.expressions import INET
from pyproxy.capture.netlink import (
    ACK,
    APPEND,
    CREATE,
    REQUEST,
    Netlink,
    attribute,
    first_error,
    message,
    nested,
    number,
    text,
)

NFTABLES = 10 << 8  # NFNL_SUBSYS_NFTABLES
NEW_TABLE, GET_TABLE, DELETE_TABLE = NFTABLES | 0, NFTABLES | 1, NFTABLES | 2
NEW_CHAIN, GET_CHAIN = NFTABLES | 3, NFTABLES | 4
NEW_RULE, GET_RULE = NFTABLES | 6, NFTABLES | 7
NEW_SET, GET_SET = NFTABLES | 9, NFTABLES | 10
NEW_ELEMENTS, GET_ELEMENTS = NFTABLES | 12, NFTABLES | 13
DELETE_ELEMENTS, GET_GENERATION = NFTABLES | 14, NFTABLES | 16
BATCH_BEGIN, BATCH_END = 0x10, 0x11
FOR_NFTABLES = struct.pack(">BBH", 0, 0, 10)

# An attribute holds 64 KiB at most, and a list of elements is one.
MOST_BYTES = 48_000


def generic(family: int) -> bytes:
    """What every message about nftables begins with."""
    return struct.pack(">BBH", family, 0, 0)


class Batch:
    """One transaction."""

    def __init__(self, table: str) -> None:
        self.table = text(1, table)
        self.parts: list[tuple[int, int, bytes]] = []

    def add(self, kind: int, family: int, *parts: bytes, flags: int = CREATE) -> None:
        """Note one message about our table."""
        body = generic(family) + self.table + b"".join(parts)
        self.parts.append((kind, flags, body))

    def fill(self, kind: int, name: str, entries: Iterable[bytes]) -> None:
        """Note elements of a set that come or go."""
        flags = CREATE if kind == NEW_ELEMENTS else 0
        for chunk in chunks(entries):
            self.add(kind, INET, text(2, name), nested(3, chunk), flags=flags)

    def commit(self, netlink: Netlink) -> None:
        """Have the kernel do all of it.

        Raises:
            OSError: it did nothing of it.
        """
        if not self.parts:
            return
        lines = [message(BATCH_BEGIN, REQUEST, netlink.next_sequence(), FOR_NFTABLES)]
        for at, (kind, flags, body) in enumerate(self.parts, 1):
            # The last one is acknowledged, after the commit, for all of them.
            wish = flags | REQUEST | (ACK if at == len(self.parts) else 0)
            lines.append(message(kind, wish, netlink.next_sequence(), body))
        end = netlink.next_sequence()
        lines.append(message(BATCH_END, REQUEST, end, FOR_NFTABLES))
        netlink.send(b"".join(lines))
        if error := first_error(netlink.answers()):
            raise error


def chunks(entries: Iterable[bytes]) -> Iterator[bytes]:
    """Entries side by side, as many as an attribute can hold."""
    held: list[bytes] = []
    size = 0
    for entry in entries:
        if size + len(entry) > MOST_BYTES:
            yield b"".join(held)
            held, size = [], 0
        held.append(entry)
        size += len(entry)
    if held:
        yield b"".join(held)


def chain(name: str, hook: tuple[str, int, int] | None) -> list[bytes]:
    """Attributes of a chain."""
    if hook is None:
        return [text(3, name)]
    kind, where, priority = hook
    at = nested(4, number(1, where), attribute(2, struct.pack(">i", priority)))
    return [text(3, name), at, text(7, kind)]


def add_rule(batch: Batch, family: int, chain_: str, rule: Sequence[bytes]) -> None:
    """Note a rule at the end of a chain."""
    parts = [text(2, chain_), nested(4, *rule)]
    batch.add(NEW_RULE, family, *parts, flags=CREATE | APPEND)
