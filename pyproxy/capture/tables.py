"""Our tables of nftables in the kernel: install, change, compare, remove.

Each change is one transaction: packets see all of it or nothing.
"""

import itertools
import struct
from collections.abc import Iterable, Iterator

from pyproxy.capture import elements as members
from pyproxy.capture import expressions as nft
from pyproxy.capture import ruleset
from pyproxy.capture.elements import Difference, Elements
from pyproxy.capture.layout import Layout
from pyproxy.capture.netlink import (
    ACK,
    APPEND,
    CREATE,
    NETFILTER,
    REQUEST,
    Netlink,
    attribute,
    attributes,
    first_error,
    message,
    nested,
    number,
    pairs,
    string,
    text,
)
from pyproxy.model import Front

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
CONTENTS = (
    "bridges",
    "fronts4",
    "fronts6",
    "wholes4",
    "wholes6",
    "sources4",
    "sources6",
)


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
            self.add(kind, nft.INET, text(2, name), nested(3, chunk), flags=flags)

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


class Tables:
    """The tables of one layout. Methods may be called from any thread, one at a time.

    Raises:
        OSError: the kernel refused, and nothing has changed.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._netlink = Netlink(NETFILTER)
        # Of the whole namespace. It grows by one with each transaction, whose ever.
        self._generation = -1
        self._skeleton: object = None  # our rules as the kernel has them

    def close(self) -> None:
        """Let go of the socket; tables stay."""
        self._netlink.close()

    def install(
        self, fronts: Iterable[Front], near: Iterable[str], bridges: Iterable[str]
    ) -> None:
        """Put our tables in place of what there is of them."""
        batch, names = Batch(self._layout.name), list(bridges)
        self._replace(batch, names)
        whole = Difference()
        for front in fronts:
            whole.enter(front, self._layout.mark)
        near_bridges = ruleset.bridge_elements(self._layout, names)
        whole.into["bridges"] = list(itertools.starmap(members.entry, near_bridges))
        for name, entries in (whole.into | members.near_networks(near)).items():
            batch.fill(NEW_ELEMENTS, name, entries)
        batch.commit(self._netlink)
        self._generation = self.generation()
        self._skeleton = self._dumped()

    def _replace(self, batch: Batch, bridges: list[str]) -> None:
        """Empty tables with all rules in place of what there is."""
        families = [nft.INET, *([nft.BRIDGE] if bridges or self._has_bridge() else [])]
        for family in families:
            batch.add(NEW_TABLE, family)
            batch.add(DELETE_TABLE, family, flags=0)
        batch.add(NEW_TABLE, nft.INET)
        for serial, one in enumerate(ruleset.sets(), 1):
            batch.add(NEW_SET, nft.INET, *one.attributes(serial))
        chains = ruleset.chains(self._layout)
        for name in chains:
            hook = ruleset.HOOKS.get(name)
            batch.add(NEW_CHAIN, nft.INET, *chain(name, hook))
        for name, rules in chains.items():
            for rule in rules:
                add_rule(batch, nft.INET, name, rule)
        if bridges:
            batch.add(NEW_TABLE, nft.BRIDGE)
            hook = ("filter", nft.PREROUTING, ruleset.AFTER_BR_NETFILTER)
            batch.add(NEW_CHAIN, nft.BRIDGE, *chain("prerouting", hook))
            rule = ruleset.bridge_rule(self._layout)
            add_rule(batch, nft.BRIDGE, "prerouting", rule)

    def change(self, what: Difference) -> None:
        """Take elements out and put others in."""
        batch = Batch(self._layout.name)
        for name, entries in what.out.items():
            batch.fill(DELETE_ELEMENTS, name, entries)
        for name, entries in what.into.items():
            batch.fill(NEW_ELEMENTS, name, entries)
        self._commit(batch)

    def replace(self, what: Elements) -> None:
        """Fill sets with other elements than there are."""
        batch = Batch(self._layout.name)
        for name, entries in what.items():
            batch.add(DELETE_ELEMENTS, nft.INET, text(2, name), flags=0)
            batch.fill(NEW_ELEMENTS, name, entries)
        self._commit(batch)

    def _commit(self, batch: Batch) -> None:
        if batch.parts:
            batch.commit(self._netlink)
            self._generation += 1

    def remove(self) -> bool:
        """Remove our tables; false if there were none."""
        batch = Batch(self._layout.name)
        for family, name in self.tables():
            if name == self._layout.name and family in (nft.INET, nft.BRIDGE):
                batch.add(DELETE_TABLE, family, flags=0)
        batch.commit(self._netlink)
        return bool(batch.parts)

    def generation(self) -> int:
        """How many transactions there were in this namespace."""
        body = self._netlink.get(GET_GENERATION, generic(0))
        return int.from_bytes(attributes(body[4:])[1], "big")

    def tables(self) -> list[tuple[int, str]]:
        """Family and name of every table in this namespace."""
        found = self._netlink.dump(GET_TABLE, generic(0))
        return [(body[0], string(attributes(body[4:])[1])) for body in found]

    def chains(self) -> Iterator[tuple[int, str, str]]:
        """Family, table and name of every chain in this namespace."""
        for body in self._netlink.dump(GET_CHAIN, generic(0)):
            said = attributes(body[4:])
            yield body[0], string(said[1]), string(said[3])

    def _has_bridge(self) -> bool:
        return (nft.BRIDGE, self._layout.name) in self.tables()

    def damage(
        self, fronts: Iterable[Front], near: Iterable[str], bridges: Iterable[str]
    ) -> str:
        """What somebody has changed of our tables, or nothing.

        Cheap as long as nobody has changed any table at all.
        """
        generation = self.generation()
        if generation == self._generation:
            return ""
        if why := self._difference(fronts, near, bridges):
            return why
        self._generation = generation
        return ""

    def generation_is_new(self) -> bool:
        """Whether anybody has changed any table in this namespace."""
        return self.generation() != self._generation

    def _difference(
        self, fronts: Iterable[Front], near: Iterable[str], bridges: Iterable[str]
    ) -> str:
        """What is not as it should be, or nothing."""
        names = {name for family, name in self.tables() if family == nft.INET}
        if self._layout.name not in names:
            return f"table inet {self._layout.name} was deleted"
        if self._dumped() != self._skeleton:
            return f"rules of table inet {self._layout.name} were changed"
        wanted = members.contents(fronts, self._layout.mark)
        wanted["bridges"] = dict(ruleset.bridge_elements(self._layout, bridges))
        for name in CONTENTS:
            if self._elements(name) != wanted.get(name, {}):
                return f"elements of set {name} were changed"
        for name, entries in members.near_networks(near).items():
            if len(self._elements(name)) != len(entries):
                return f"elements of set {name} were changed"
        return ""

    def _dumped(self) -> list[tuple[object, ...]]:
        """Rules, chains and sets as the kernel has them, without their handles."""
        found: list[tuple[object, ...]] = []
        for kind, keep in ((GET_CHAIN, {3, 4, 7}), (GET_RULE, {2, 4}), (GET_SET, {2})):
            for family in (nft.INET, nft.BRIDGE):
                request = generic(family) + text(1, self._layout.name)
                try:
                    bodies = self._netlink.dump(kind, request)
                except FileNotFoundError:
                    continue  # such a table is not there
                for body in bodies:
                    said = list(pairs(body[4:]))
                    # Not every kernel honours the filter.
                    if (1, text(1, self._layout.name)[4:][: len(said[0][1])]) in said:
                        found.append(
                            (kind, family, *(one for one in said if one[0] in keep))
                        )
        return found

    def _elements(self, name: str) -> dict[bytes, bytes]:
        """Keys of a set, with data or the end of an interval."""
        request = generic(nft.INET) + text(1, self._layout.name) + text(2, name)
        found: dict[bytes, bytes] = {}
        for body in self._netlink.dump(GET_ELEMENTS, request):
            for kind, entries in pairs(body[4:]):
                if kind == 3:
                    found.update(element(one) for _, one in pairs(entries))
        return found


def element(data: bytes) -> tuple[bytes, bytes]:
    """Key of an element, with its data or its end."""
    said = attributes(data)
    other = said.get(members.DATA) or said.get(members.KEY_END)
    end = said.get(members.FLAGS, b"")  # two ends of an interval may have one key
    key = attributes(said[members.KEY])[1]
    return key + end, attributes(other)[1] if other else b""


def chain(name: str, hook: tuple[str, int, int] | None) -> list[bytes]:
    """Attributes of a chain."""
    if hook is None:
        return [text(3, name)]
    kind, where, priority = hook
    at = nested(4, number(1, where), attribute(2, struct.pack(">i", priority)))
    return [text(3, name), at, text(7, kind)]


def add_rule(batch: Batch, family: int, chain_: str, rule: ruleset.Rule) -> None:
    """Note a rule at the end of a chain."""
    parts = [text(2, chain_), nested(4, *rule)]
    batch.add(NEW_RULE, family, *parts, flags=CREATE | APPEND)
