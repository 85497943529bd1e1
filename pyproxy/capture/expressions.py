"""Rules of nftables as the kernel takes them: expressions over registers.

Each function returns one expression; a rule is a sequence of them, and ends at the
first that does not match. Register 1 holds up to 16 bytes; parts of a longer key stand
in registers of four bytes from 9 on. What stands here is what nft itself would write,
so that `nft list ruleset` shows it as text.

Source: include/uapi/linux/netfilter/nf_tables.h of the kernel.
"""

import ipaddress
import socket
import struct

from pyproxy.capture.netlink import attribute, nested, number, text

INET, IPV4, BRIDGE, IPV6 = 1, 2, 7, 10  # families: NFPROTO_*
PREROUTING, OUTPUT = 0, 3  # hooks
IFNAME_BYTES = 16

ACCEPT, DROP, JUMP, GOTO, RETURN = 1, 0, -3, -4, -5  # verdicts
MARK, IIFNAME, NFPROTO, L4PROTO, PKTTYPE = 3, 6, 15, 16, 19  # keys of `meta`
LINK, NETWORK, TRANSPORT = 0, 1, 2  # headers
TRANSPARENT, WILDCARD = 0, 2  # keys of `socket`
TCP_RESET, ICMPX = 1, 2  # types of `reject`
PORT_UNREACHABLE = 1  # code of ICMPX
HOST = 0  # PACKET_HOST
EQUAL, UNEQUAL = 0, 1

# Where addresses stand: family -> offsets of source and destination, and their length.
ADDRESSES = {IPV4: (12, 16, 4), IPV6: (8, 24, 16)}


def expression(name: str, *parts: bytes) -> bytes:
    """One element of a rule."""
    data = [nested(2, *parts)] if parts else []
    return nested(1, text(1, name), *data)


def value(data: bytes) -> bytes:
    """A constant."""
    return attribute(1, data)


def meta(key: int, register: int = 1) -> bytes:
    """Load something about the packet."""
    return expression("meta", number(2, key), number(1, register))


def set_meta(key: int, data: bytes) -> list[bytes]:
    """Change something about the packet."""
    return [immediate(data), store_meta(key)]


def store_meta(key: int) -> bytes:
    """Change something about the packet to what register 1 holds."""
    return expression("meta", number(2, key), number(3, 1))


def immediate(data: bytes, register: int = 1) -> bytes:
    """Load a constant."""
    return expression("immediate", number(1, register), nested(2, value(data)))


def payload(header: int, offset: int, length: int, register: int = 1) -> bytes:
    """Load bytes of the packet."""
    where = (number(2, header), number(3, offset), number(4, length))
    return expression("payload", number(1, register), *where)


def compare(data: bytes, how: int = EQUAL) -> bytes:
    """Go on if register 1 holds `data`."""
    return expression("cmp", number(1, 1), number(2, how), nested(3, value(data)))


def masked(mask: bytes) -> bytes:
    """Keep bits of register 1."""
    zero = bytes(len(mask))
    size = (number(1, 1), number(2, 1), number(3, len(mask)))
    return expression("bitwise", *size, nested(4, value(mask)), nested(5, value(zero)))


def lookup(name: str, register: int | None = None) -> bytes:
    """Go on if the key from register 1 on is in a set.

    Of a map, load what it says into `register`.
    """
    into = [] if register is None else [number(3, register)]
    return expression("lookup", text(1, name), number(2, 1), *into)


def verdict(code: int, chain: str = "") -> bytes:
    """End the rule."""
    where = [text(2, chain)] if chain else []
    data = nested(2, attribute(1, struct.pack(">i", code)), *where)
    return expression("immediate", number(1, 0), nested(2, data))


def about_socket(key: int) -> list[bytes]:
    """Go on if the packet has a socket of ours of which `key` is true, or 1."""
    return [
        expression("socket", number(1, key), number(2, 1)),
        compare(b"\x01"),
    ]


def own_socket() -> list[bytes]:
    """Go on if the packet is for a transparent socket that is no wildcard listener."""
    found = about_socket(TRANSPARENT)
    return [*found, expression("socket", number(1, WILDCARD), number(2, 1)), ZERO]


ZERO = compare(b"\x00")
NOTRACK = expression("notrack")


def reject(kind: int, code: int = 0) -> bytes:
    """Answer with a reset or an ICMP error."""
    return expression("reject", number(1, kind), attribute(2, bytes([code])))


def tproxy(family: int, host: str, port: int) -> list[bytes]:
    """Give the packet to the listener at an address; go on if there is one."""
    return [
        immediate(ipaddress.ip_address(host).packed),
        immediate(port.to_bytes(2, "big"), 2),
        expression("tproxy", number(1, family), number(2, 1), number(3, 2)),
    ]


def of_family(family: int) -> list[bytes]:
    """Go on if the packet is of a family."""
    return [meta(NFPROTO), compare(bytes([family]))]


def of_protocol(protocol: int) -> list[bytes]:
    """Go on if the packet is of a protocol."""
    return [meta(L4PROTO), compare(bytes([protocol]))]


def through(interface: str, how: int = EQUAL) -> list[bytes]:
    """Go on if the packet came in through an interface."""
    name = interface.encode().ljust(IFNAME_BYTES, b"\0")
    return [meta(IIFNAME), compare(name, how)]


def marked(mask: int, wanted: int) -> list[bytes]:
    """Go on if bits of the mark are as wanted."""
    bits, expected = struct.pack("=I", mask), struct.pack("=I", wanted)
    return [meta(MARK), masked(bits), compare(expected)]


def mark(number_: int) -> list[bytes]:
    """Set the mark."""
    return set_meta(MARK, struct.pack("=I", number_))


def front_key(family: int, *, port: bool = False, source: bool = False) -> list[bytes]:
    """Load protocol and destination, and what else is asked for, one after another."""
    at_source, at_destination, length = ADDRESSES[family]
    loads = [meta(L4PROTO), payload(NETWORK, at_destination, length, 9)]
    register = 9 + length // 4
    if port:
        loads.append(payload(TRANSPORT, 2, 2, register))
        register += 1
    if source:
        loads.append(payload(NETWORK, at_source, length, register))
    return [*of_family(family), *loads]


def source(family: int) -> list[bytes]:
    """Load the source address."""
    at, _, length = ADDRESSES[family]
    return [*of_family(family), payload(NETWORK, at, length)]


def destination(family: int) -> list[bytes]:
    """Load the destination address."""
    _, at, length = ADDRESSES[family]
    return [*of_family(family), payload(NETWORK, at, length)]


TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
