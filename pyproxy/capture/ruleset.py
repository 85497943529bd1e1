"""Our tables of nftables. Only elements of sets change while they stand.

::

    hook            chain       what it does
    prerouting min  again       br_netfilter has had the packet once: find its listener
    prerouting raw  prerouting  sockets' own packets -> in; fronts -> decide; blocks of
                                Services: what is for no front is dropped
                    own         notes whether the packet came over a bridge
                    decide      limited, then near or far: serve, refuse, or dropped
                    serve       no conntrack, TPROXY
    output raw      output      sockets' own packets; fronts -> host
                    host        limited, then near: return, refuse or vanish
                    return      comes back through lo
                    vanish      comes back and is dropped
    bridge          prerouting  frames between two pods that are for sockets of ours

A packet of a front gets our mark, and a rule of routes leads what has it to this
machine. That is why addresses of Services are no addresses of the machine: nobody
answers ARP for them, and programs that listen on all addresses are not reached by them.

A pure SYN goes to `decide` even if it has a socket: that one is in TIME_WAIT, and a
listener has to take over.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pyproxy.capture import expressions as nft
from pyproxy.capture.layout import LISTENERS, UPWARDS, Layout
from pyproxy.capture.netlink import attribute, nested, number, text

FIRST, RAW, AFTER_BR_NETFILTER = -(1 << 31), -300, 10  # priorities
INTERVAL, MAP, CONCATENATED = 0x4, 0x8, 0x80  # flags of sets
MARK_TYPE, IFNAME_TYPE = 19, 41  # types of nft, for those who look at our tables
INET_PROTO_TYPE, SERVICE_TYPE = 12, 13
ADDRESS_TYPES = {4: (7, 4), 6: (8, 16)}  # type and length
HOST_ORDER, NETWORK_ORDER = 1, 2
FAMILIES = {4: nft.IPV4, 6: nft.IPV6}
SYN_ACK, SYN = b"\x12", b"\x02"
IS_FOR_BRIDGE = 1  # a bit of the mark of a packet with a socket: it came over a bridge
VANISHED = 2  # a bit of the mark of a packet that is dropped when it comes back
OURS = 0xFFFFFFFE  # all bits but that one

Rule = Sequence[bytes]

NO_BEGINNING = (  # a packet of TCP that is not a pure SYN
    *nft.of_protocol(nft.TCP),
    nft.payload(nft.TRANSPORT, 13, 1),
    nft.masked(SYN_ACK),
    nft.compare(SYN, nft.UNEQUAL),
)


@dataclass(frozen=True, slots=True)
class Set:
    """A set or map: its name and what it is made of."""

    name: str
    key: tuple[tuple[int, int], ...]  # type and bytes of each part
    flags: int = 0

    def attributes(self, number_: int) -> list[bytes]:
        """What creates it."""
        width, kind = 0, 0
        for type_, length in self.key:
            width += (length + 3) & ~3
            kind = kind << 6 | type_
        found = [text(2, self.name), number(3, self.flags), number(4, kind)]
        found += [number(5, width), number(10, number_)]
        order = b"\0\4" + struct.pack("=I", self._order)
        if self.flags & MAP:
            found += [number(6, MARK_TYPE), number(7, 4)]
            order += b"\1\4" + struct.pack("=I", HOST_ORDER)
        if self.flags & CONCATENATED:
            parts = [nested(1, number(1, length)) for _, length in self.key]
            found.append(nested(9, nested(2, *parts)))
        return [*found, attribute(13, order)]

    @property
    def _order(self) -> int:
        return HOST_ORDER if self.key[0][0] == IFNAME_TYPE else NETWORK_ORDER


def sets() -> list[Set]:
    """All our sets."""
    found = [Set("bridges", ((IFNAME_TYPE, nft.IFNAME_BYTES),), MAP)]
    for version, address in ADDRESS_TYPES.items():
        whole = ((INET_PROTO_TYPE, 1), address)
        front = (*whole, (SERVICE_TYPE, 2))
        found += [
            Set(f"fronts{version}", front, MAP),
            Set(f"wholes{version}", whole, MAP),
            Set(f"sources{version}", (*front, address), INTERVAL | CONCATENATED),
            Set(f"near{version}", (address,), INTERVAL),
            Set(f"blocks{version}", (address,), INTERVAL),
        ]
    return found


def chains(layout: Layout) -> dict[str, list[Rule]]:
    """The rules of table inet, by chain."""
    return {
        "limited": list(_limited(nft.verdict(nft.DROP))),
        "limited-host": list(_limited(nft.verdict(nft.GOTO, "vanish"))),
        "return": list(_return(layout)),
        "vanish": list(_vanish(layout)),
        "refuse": [
            [nft.NOTRACK, *nft.of_protocol(nft.TCP), nft.reject(nft.TCP_RESET)],
            [nft.NOTRACK, nft.reject(nft.ICMPX, nft.PORT_UNREACHABLE)],
        ],
        "serve": list(_serve(layout)),
        "far": list(_access(0b1100, 0b0100)),
        "near": list(_access(0b0011, 0b0001)),
        "decide": list(_decide()),
        "host": list(_host()),
        "own": list(_own()),
        "again": list(_again(layout)),
        "prerouting": list(_prerouting(layout)),
        "output": list(_output()),
    }


HOOKS = {  # chain -> its kind, hook and priority
    "again": ("filter", nft.PREROUTING, FIRST),
    "prerouting": ("filter", nft.PREROUTING, RAW),
    "output": ("route", nft.OUTPUT, RAW),
}


def _limited(otherwise: bytes) -> Iterator[Rule]:
    """Return if the source is one of the front's."""
    for version, family in FAMILIES.items():
        key = nft.front_key(family, port=True, source=True)
        found = nft.lookup(f"sources{version}")
        yield [*key, found, nft.verdict(nft.RETURN)]
    yield [otherwise]


def _serve(layout: Layout) -> Iterator[Rule]:
    """Give the packet to our listener.

    Without one, and that is while we start anew, a client that begins sends its SYN
    again, and others are told that their connection is gone.
    """
    yield [*nft.mark(layout.mark), nft.NOTRACK]
    yield from _to_listener(layout, [])
    yield [*NO_BEGINNING, nft.reject(nft.TCP_RESET)]
    yield [nft.verdict(nft.DROP)]


def _to_listener(layout: Layout, condition: Rule) -> Iterator[Rule]:
    """Accept what has a listener."""
    ports = ((nft.TCP, layout.tcp_port), (nft.UDP, layout.udp_port))
    for family, host in zip(FAMILIES.values(), LISTENERS, strict=True):
        for protocol, port in ports:
            which = [*nft.of_family(family), *nft.of_protocol(protocol)]
            to = nft.tproxy(family, host, port)
            yield [*condition, *which, *to, nft.verdict(nft.ACCEPT)]


def _access(mask: int, reject: int) -> Iterator[Rule]:
    """What becomes of clients, by bits of the class."""
    yield [*nft.marked(mask, 0), nft.verdict(nft.GOTO, "serve")]
    yield [*nft.marked(mask, reject), nft.verdict(nft.GOTO, "refuse")]
    yield [nft.verdict(nft.DROP)]


def _decide() -> Iterator[Rule]:
    yield [*nft.marked(0x10, 0x10), nft.verdict(nft.JUMP, "limited")]
    yield [*nft.marked(0x0F, 0), nft.verdict(nft.GOTO, "serve")]
    yield [*nft.through("lo"), nft.verdict(nft.GOTO, "near")]
    for version, family in FAMILIES.items():
        found = [*nft.source(family), nft.lookup(f"near{version}")]
        yield [*found, nft.verdict(nft.GOTO, "near")]
    yield [nft.verdict(nft.GOTO, "far")]


def _host() -> Iterator[Rule]:
    """What becomes of packets of this machine's own processes, which are near.

    Those of a connection that there is already come back, whatever the front says now.
    """
    yield [*NO_BEGINNING, nft.verdict(nft.GOTO, "return")]
    yield [*nft.marked(0x10, 0x10), nft.verdict(nft.JUMP, "limited-host")]
    yield [*nft.marked(0b0011, 0), nft.verdict(nft.GOTO, "return")]
    yield [*nft.marked(0b0011, 0b0001), nft.verdict(nft.GOTO, "refuse")]
    yield [nft.verdict(nft.GOTO, "vanish")]


def _return(layout: Layout) -> Iterator[Rule]:
    """Come back through lo."""
    yield [*nft.mark(layout.mark), nft.NOTRACK, nft.verdict(nft.ACCEPT)]


def _vanish(layout: Layout) -> Iterator[Rule]:
    """Drop on the way back: to drop on the way out would tell the sender (EPERM)."""
    gone = nft.mark(layout.mark | VANISHED)
    yield [*gone, nft.NOTRACK, nft.verdict(nft.ACCEPT)]


def _again(layout: Layout) -> Iterator[Rule]:
    """Find the listener a second time.

    A frame to a bridge passes prerouting there (br_netfilter), is taken off its socket
    on its way up, and passes no hook a second time but those that stand before
    br_netfilter's own.
    """
    arrived = [
        *nft.through("lo", nft.UNEQUAL),
        *nft.marked(OURS, layout.mark),
    ]
    yield from _to_listener(layout, arrived)


def _prerouting(layout: Layout) -> Iterator[Rule]:
    ours = [*nft.own_socket(), *nft.mark(layout.mark), nft.NOTRACK]
    own = nft.verdict(nft.GOTO, "own")
    yield [*NO_BEGINNING, *ours, own]
    come_back = [*nft.through("lo"), *nft.marked(OURS, layout.mark)]
    yield [*come_back, nft.verdict(nft.GOTO, "serve")]
    vanished = nft.marked(0xFFFFFFFF, layout.mark | VANISHED)
    yield [*nft.through("lo"), *vanished, nft.verdict(nft.DROP)]
    yield from _fronts("decide")
    # Datagrams, and ICMP errors about what such a socket sent. Those to a front are not
    # for it: a socket that answers from there need not be connected to this client.
    other = [nft.meta(nft.L4PROTO), nft.compare(bytes([nft.TCP]), nft.UNEQUAL)]
    yield [*other, *ours, own]
    yield from _blocks([nft.verdict(nft.DROP)])


def _fronts(chain: str) -> Iterator[Rule]:
    """Mark what is for a front, and go on in `chain` with it."""
    for version, family in FAMILIES.items():
        for name, port in (("fronts", True), ("wholes", False)):
            key = nft.front_key(family, port=port)
            found = nft.lookup(f"{name}{version}", 1)
            go = nft.verdict(nft.GOTO, chain)
            yield [*key, found, nft.store_meta(nft.MARK), go]


def _blocks(unknown: Rule) -> Iterator[Rule]:
    """What is for an address of Services that no Service has."""
    for version, family in FAMILIES.items():
        yield [*nft.destination(family), nft.lookup(f"blocks{version}"), *unknown]


def _own() -> Iterator[Rule]:
    """Accept what has a socket of ours, and note whether it came over a bridge."""
    over = [nft.meta(nft.IIFNAME), nft.lookup("bridges", 1)]
    yield [*over, nft.store_meta(nft.MARK), nft.verdict(nft.ACCEPT)]
    yield [nft.verdict(nft.ACCEPT)]


def _output() -> Iterator[Rule]:
    ours = nft.about_socket(nft.TRANSPARENT)
    yield [*ours, nft.NOTRACK, nft.verdict(nft.ACCEPT)]
    yield from _fronts("host")
    yield from _blocks([*NO_BEGINNING, nft.verdict(nft.GOTO, "return")])
    yield from _blocks([nft.verdict(nft.GOTO, "vanish")])


def bridge_rule(layout: Layout) -> Rule:
    """Send frames for sockets of ours up to the bridge that has them."""
    to_bridge = layout.mark | IS_FOR_BRIDGE
    return [
        *nft.marked(0xFFFFFFFF, to_bridge),
        nft.immediate(UPWARDS),
        nft.expression(
            "payload",
            *(number(5, 1), number(2, nft.LINK), number(3, 0), number(4, 6)),
            *(number(6, 0), number(7, 0), number(8, 0)),
        ),
        *nft.set_meta(nft.PKTTYPE, bytes([nft.HOST])),
    ]


def bridge_elements(layout: Layout, names: Iterable[str]) -> list[tuple[bytes, bytes]]:
    """Keys and data of the map of bridges."""
    data = struct.pack("=I", layout.mark | IS_FOR_BRIDGE)
    width = nft.IFNAME_BYTES
    return [(name.encode().ljust(width, b"\0"), data) for name in names]
