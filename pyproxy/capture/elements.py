"""Fronts as elements of sets: what changes in the kernel when fronts change.

A map says for (protocol, address, port) which mark a packet gets; the low bits of the
mark are a class, and rules that never change know what each class means::

    bits 0-1  near clients: serve, reject, drop      bits 2-3  far clients, likewise
    bit 4     only some sources: (protocol, address, port, source) is in another set

A map of marks rather than of verdicts: at each change of a map of verdicts the kernel
walks over all of its elements, to see that no chain is jumped to in a circle.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from pyproxy.capture.netlink import attribute, attributes, nested, pairs
from pyproxy.model import Access, Front, Protocol, VipKey

ACCESS = {"serve": 0, "reject": 1, "drop": 2}
WORDS: list[Access] = ["serve", "reject", "drop", "drop"]
LIMITED = 0x10
PROTOCOLS = {
    "tcp": struct.pack("B3x", socket.IPPROTO_TCP),
    "udp": struct.pack("B3x", socket.IPPROTO_UDP),
}
ELEMENT, KEY, DATA, FLAGS, KEY_END = 1, 1, 2, 3, 10  # attributes
INTERVAL_END = b"\0\0\0\1"

Elements = dict[str, list[bytes]]  # set -> elements, encoded


def family_of(host: str) -> str:
    """The end of names of sets."""
    return "6" if ":" in host else "4"


def packed(host: str) -> bytes:
    """An address as packets have it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def place(front: Front) -> tuple[str, bytes]:
    """The map that a front is in, and its key there."""
    key = PROTOCOLS[front.protocol] + packed(front.host)
    if front.port == 0:
        return "wholes" + family_of(front.host), key
    return "fronts" + family_of(front.host), key + struct.pack(">H2x", front.port)


def mark_of(front: Front, base: int) -> bytes:
    """What the map says for a front."""
    class_ = ACCESS[front.near] | ACCESS[front.far] << 2
    if front.sources is not None:
        class_ |= LIMITED
    return struct.pack("=I", base | class_)


def check(front: Front) -> None:
    """Raise if a front cannot be.

    Raises:
        ValueError: it is of port 0, all ports that no other front of its address names,
            and would be served or has sources.
    """
    if front.port == 0 and (
        "serve" in (front.near, front.far) or front.sources is not None
    ):
        raise ValueError(f"{front}: all ports of an address can be rejected or dropped")


def value(data: bytes) -> bytes:
    """The bytes of a key or of what a map says."""
    return attribute(1, data)


def entry(key: bytes, data: bytes = b"") -> bytes:
    """An element of a set or, with `data`, of a map."""
    before, between = frame(len(key), len(data))
    return before + key + between + data


@lru_cache
def frame(key: int, data: int) -> tuple[bytes, bytes]:
    """What stands before the key of an element, and between key and data.

    There are tens of thousands of elements of few sizes, all multiples of four.
    """
    says = [nested(DATA, value(bytes(data)))] if data else []
    whole = nested(ELEMENT, nested(KEY, value(bytes(key))), *says)
    before = len(nested(ELEMENT, nested(KEY, value(b""))))
    return whole[:before], whole[before + key : len(whole) - data]


def interval(first: bytes, last: bytes) -> bytes:
    """An element that stands for all keys between two."""
    return nested(ELEMENT, nested(KEY, value(first)), nested(KEY_END, value(last)))


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(texts: Iterable[str], version: int) -> list[Network]:
    """Networks of a family, none of which overlaps with another."""
    found = [ipaddress.ip_network(text, strict=False) for text in texts]
    of_version = [network for network in found if network.version == version]
    return list(ipaddress.collapse_addresses(of_version))  # type: ignore[type-var]


def ends(network: Network) -> tuple[bytes, bytes]:
    """First and last address."""
    return network.network_address.packed, network.broadcast_address.packed


def source_ranges(front: Front) -> list[tuple[bytes, bytes]]:
    """First and last key of each range in the set of sources."""
    _, key = place(front)
    wanted = networks(front.sources or (), 6 if ":" in front.host else 4)
    return [(key + low, key + high) for low, high in map(ends, wanted)]


def intervals(name: str, texts: Iterable[str]) -> Elements:
    """Elements of two sets of networks, one for each family."""
    found: Elements = {f"{name}4": [], f"{name}6": []}
    texts = list(texts)
    for version in (4, 6):
        for network in networks(texts, version):
            low, high = ends(network)
            after = int.from_bytes(high, "big") + 1
            found[f"{name}{version}"].append(entry(low))
            if after < 1 << (8 * len(high)):  # an interval may be open at the end
                last = nested(KEY, value(after.to_bytes(len(high), "big")))
                end = (last, attribute(FLAGS, INTERVAL_END))
                found[f"{name}{version}"].append(nested(ELEMENT, *end))
    return found


@dataclass
class Difference:
    """What to take out of sets, and what to put into them."""

    out: Elements = field(default_factory=dict)
    into: Elements = field(default_factory=dict)

    def leave(self, front: Front) -> None:
        """Take a front out."""
        name, key = place(front)
        self.out.setdefault(name, []).append(entry(key))
        if front.sources is not None:
            self.out.setdefault(sources_of(front), []).extend(
                interval(low, high) for low, high in source_ranges(front)
            )

    def enter(self, front: Front, base: int) -> None:
        """Put a front in."""
        name, key = place(front)
        self.into.setdefault(name, []).append(entry(key, mark_of(front, base)))
        if front.sources is not None:
            self.into.setdefault(sources_of(front), []).extend(
                interval(low, high) for low, high in source_ranges(front)
            )


def sources_of(front: Front) -> str:
    """The set that sources of a front are in."""
    return "sources" + family_of(front.host)


def difference(
    old: Mapping[VipKey, Front], new: Mapping[VipKey, Front | None], base: int
) -> Difference:
    """What makes `new` of the `old` fronts; None = no more."""
    found = Difference()
    for key, front in new.items():
        known = old.get(key)
        if known == front:
            continue
        if known is not None:
            found.leave(known)
        if front is not None:
            found.enter(front, base)
    return found


def contents(fronts: Iterable[Front], base: int) -> dict[str, dict[bytes, bytes]]:
    """What the maps and sets of fronts hold: key -> data, or end of an interval."""
    found: dict[str, dict[bytes, bytes]] = {}
    for front in fronts:
        name, key = place(front)
        found.setdefault(name, {})[key] = mark_of(front, base)
        for low, high in source_ranges(front) if front.sources else ():
            found.setdefault(sources_of(front), {})[low] = high
    return found


def decoded(entries: bytes) -> list[tuple[bytes, bytes]]:
    """Elements of a list: key of each, with its data or its end."""
    return alike(entries) or [element(one) for _, one in pairs(entries)]


def alike(entries: bytes) -> list[tuple[bytes, bytes]]:
    """The same of tens of thousands that differ in nothing else; [] of others."""
    first = next(pairs(entries), None)
    if first is None:
        return []
    size = 4 + len(first[1])
    key, data = map(len, element(first[1]))
    before, after = 12, size - data  # three headers, a key, two more, data
    if size % 4 or len(entries) % size or not data or after - before != key + 8:
        return []
    each = [entries[at : at + size] for at in range(0, len(entries), size)]
    if len({one[:before] + one[before + key : after] for one in each}) > 1:
        return []
    return [(one[before : before + key], one[after:]) for one in each]


def element(data: bytes) -> tuple[bytes, bytes]:
    """Key of an element, with its data or its end."""
    said = attributes(data)
    other = said.get(DATA) or said.get(KEY_END)
    end = said.get(FLAGS, b"")  # two ends of an interval may have one key
    return attributes(said[KEY])[1] + end, attributes(other)[1] if other else b""


def fronts_of(sets: Mapping[str, Mapping[bytes, bytes]]) -> list[Front]:
    """The fronts whose `contents` these are, whatever their marks' base."""
    found = []
    for version in ("4", "6"):
        ranges: dict[bytes, list[str]] = {}
        size = 12 if version == "4" else 24  # of a key without its source
        for low, high in sets.get(f"sources{version}", {}).items():
            bounds = [ipaddress.ip_address(end[size:]) for end in (low, high)]
            between = ipaddress.summarize_address_range(*bounds)
            ranges.setdefault(low[:size], []).extend(map(str, between))
        for name in ("fronts", "wholes"):
            for key, data in sets.get(f"{name}{version}", {}).items():
                (mark,) = struct.unpack("=I", data)
                sources = tuple(ranges.get(key, ())) if mark & LIMITED else None
                found.append(front_of(key, mark, sources, has_port=name == "fronts"))
    return found


def front_of(
    key: bytes, mark: int, sources: tuple[str, ...] | None, *, has_port: bool
) -> Front:
    """The front of an element."""
    protocol: Protocol = "tcp" if key[0] == socket.IPPROTO_TCP else "udp"
    end = -4 if has_port else len(key)
    host = str(ipaddress.ip_address(key[4:end]))
    port = int.from_bytes(key[-4:-2], "big") if has_port else 0
    near, far = (WORDS[mark >> shift & 3] for shift in (0, 2))
    return Front(protocol, host, port, near, far, sources)
