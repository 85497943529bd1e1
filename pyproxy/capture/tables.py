"""Our tables of nftables in the kernel: install, change, compare, remove."""

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyproxy.capture import elements as members
from pyproxy.capture import expressions as nft
from pyproxy.capture import ruleset
from pyproxy.capture.batch import (
    DELETE_ELEMENTS,
    DELETE_TABLE,
    GET_CHAIN,
    GET_ELEMENTS,
    GET_GENERATION,
    GET_RULE,
    GET_SET,
    GET_TABLE,
    NEW_CHAIN,
    NEW_ELEMENTS,
    NEW_SET,
    NEW_TABLE,
    Batch,
    add_rule,
    chain,
    generic,
)
from pyproxy.capture.elements import Difference, Elements
from pyproxy.capture.layout import Layout
from pyproxy.capture.netlink import (
    NETFILTER,
    Netlink,
    attributes,
    pairs,
    string,
    text,
)
from pyproxy.model import Front, VipKey

ELEMENTS = 3  # an attribute of a list of them
FRONTS = [
    f"{name}{version}" for name in ("fronts", "wholes", "sources") for version in (4, 6)
]


@dataclass
class Wanted:
    """What our tables hold."""

    fronts: dict[VipKey, Front] = field(default_factory=dict)
    near: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ()

    def networks(self) -> Elements:
        """Elements of sets of networks."""
        blocks = members.intervals("blocks", self.blocks)
        return members.intervals("near", self.near) | blocks


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

    def install(self, wanted: Wanted) -> None:
        """Put our tables in place of what there is of them."""
        batch = Batch(self._layout.name)
        self._replace(batch, wanted.bridges)
        whole = Difference()
        for front in wanted.fronts.values():
            whole.enter(front, self._layout.mark)
        bridges = ruleset.bridge_elements(self._layout, wanted.bridges)
        whole.into["bridges"] = list(itertools.starmap(members.entry, bridges))
        for name, entries in (whole.into | wanted.networks()).items():
            batch.fill(NEW_ELEMENTS, name, entries)
        batch.commit(self._netlink)
        self._generation = self.generation()
        self._skeleton = self._dumped()

    def _replace(self, batch: Batch, bridges: tuple[str, ...]) -> None:
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

    def change(self, what: Difference, networks: Elements | None = None) -> None:
        """Take elements out and put others in; replace sets of networks."""
        batch = Batch(self._layout.name)
        self._refill(batch, networks or {})
        for name, entries in what.out.items():
            batch.fill(DELETE_ELEMENTS, name, entries)
        for name, entries in what.into.items():
            batch.fill(NEW_ELEMENTS, name, entries)
        self._commit(batch)

    def replace(self, what: Elements) -> None:
        """Fill sets with other elements than there are."""
        batch = Batch(self._layout.name)
        self._refill(batch, what)
        self._commit(batch)

    def _refill(self, batch: Batch, what: Elements) -> None:
        for name, entries in what.items():
            batch.add(DELETE_ELEMENTS, nft.INET, text(2, name), flags=0)
            batch.fill(NEW_ELEMENTS, name, entries)

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

    def damage(self, wanted: Wanted) -> str:
        """What somebody has changed of our tables, or nothing.

        Cheap as long as nobody has changed any table at all.
        """
        generation = self.generation()
        if generation == self._generation:
            return ""
        if why := self._difference(wanted):
            return why
        self._generation = generation
        return ""

    def _difference(self, wanted: Wanted) -> str:
        """What is not as it should be, or nothing."""
        if not self.are_there():
            return f"table inet {self._layout.name} was deleted"
        if self._dumped() != self._skeleton:
            return f"rules of table inet {self._layout.name} were changed"
        expected = members.contents(wanted.fronts.values(), self._layout.mark)
        bridges = ruleset.bridge_elements(self._layout, wanted.bridges)
        expected["bridges"] = dict(bridges)
        for name in ("bridges", *FRONTS):
            if self._elements(name) != expected.get(name, {}):
                return f"elements of set {name} were changed"
        for name, entries in wanted.networks().items():
            if len(self._elements(name)) != len(entries):
                return f"elements of set {name} were changed"
        return ""

    def are_there(self) -> bool:
        """Whether there is a table of ours, or of a predecessor."""
        return (nft.INET, self._layout.name) in self.tables()

    def fronts(self) -> dict[VipKey, Front]:
        """The fronts of a predecessor.

        Raises:
            ValueError: it had other sets.
        """
        try:
            sets = {name: self._elements(name) for name in FRONTS}
            return {front.key: front for front in members.fronts_of(sets)}
        except (OSError, ValueError, IndexError, struct.error) as error:
            raise ValueError("tables of another version") from error

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
                    if (1, self._layout.name.encode() + b"\0") in said:
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
                if kind == ELEMENTS:
                    found.update(members.decoded(entries))
        return found
