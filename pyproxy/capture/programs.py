"""Programs at connect(2) and getpeername(2): the address of a Service and back.

connect: (address, port) -> which set, how many, which counter -> one of the set, at
random. The socket's cookie remembers the Service. getpeername: cookie -> the Service.

An address has 16 bytes everywhere, IPv4 as ::ffff:a.b.c.d, which is also how a socket
of IPv6 dials it.
"""

import struct
from dataclasses import dataclass

from pyproxy.capture.bpf import Code, Map

CONNECT4, CONNECT6, PEER4, PEER6 = 10, 11, 29, 30  # hooks: BPF_CGROUP_INET4_CONNECT, …
LOOKUP, UPDATE, RANDOM, COOKIE = 1, 2, 7, 46  # helpers

# struct bpf_sock_addr
IP4, IP6, PORT, PROTOCOL = 4, 8, 24, 36
TCP = 6
MAPPED = struct.unpack("<i", b"\0\0\xff\xff")[0]

ADDRESS_BYTES = 20  # 16 of the address, 2 of the port, 2 of nothing
# In the frame:
SERVICE, TARGET = -40, -20  # two addresses side by side, as `peers` has them
MEMBER = -48  # set, index
COUNTER = -52
OWN_COOKIE = -64
# In a service:
SET, MEMBERS, COUNTS = 0, 4, 8
SERVICE_BYTES = 12
CONTEXT, FOUND, CHOSEN = 6, 7, 9  # registers that calls leave alone
ALLOW = 1


@dataclass(frozen=True, slots=True)
class Maps:
    """What the programs share with us."""

    services: Map  # address -> set, members, counter
    members: Map  # set, index -> address
    counters: Map  # counter -> connections
    peers: Map  # cookie of a socket -> address of the Service, address that it got


def connect(maps: Maps, *, six: bool) -> bytes:
    """Dial one of the members of a set in place of its Service."""
    code = Code()
    code.copy(CONTEXT, 1)
    code.load(1, CONTEXT, PROTOCOL)
    code.jump_unless(1, TCP, "allow")
    _load_address(code, six=six)
    _look(code, maps.services, SERVICE)
    code.jump_if(0, 0, "allow")
    code.copy(FOUND, 0)
    code.load(8, FOUND, MEMBERS)
    code.jump_if(8, 0, "allow")
    code.call(RANDOM)
    code.modulo(0, 8)
    code.store(10, MEMBER + 4, 0)
    code.load(1, FOUND, SET)
    code.store(10, MEMBER, 1)
    _look(code, maps.members, MEMBER)
    code.jump_if(0, 0, "allow")  # its set is being replaced: whoever is behind it helps
    code.copy(CHOSEN, 0)
    for word in range(ADDRESS_BYTES // 4):
        code.load(1, CHOSEN, 4 * word)
        code.store(10, TARGET + 4 * word, 1)
    _count(code, maps.counters)
    _remember(code, maps.peers)
    _store_address(code, CHOSEN, six=six)
    code.label("allow")
    code.end(ALLOW)
    return code.assembled()


def peer(maps: Maps, *, six: bool) -> bytes:
    """Name the Service that was dialled, unless the socket has dialled again since."""
    code = Code()
    code.copy(CONTEXT, 1)
    code.call(COOKIE)
    code.store_long(10, OWN_COOKIE, 0)
    _look(code, maps.peers, OWN_COOKIE)
    code.jump_if(0, 0, "allow")
    words = [(IP6 + 4 * n, 4 * n) for n in range(4)] if six else [(IP4, 12)]
    for known, got in (*words, (PORT, 16)):
        code.load(1, CONTEXT, known)
        code.load(2, 0, ADDRESS_BYTES + got)
        code.jump_unless_same(1, 2, "allow")
    _store_address(code, 0, six=six)
    code.label("allow")
    code.end(ALLOW)
    return code.assembled()


def _look(code: Code, map_: Map, key: int) -> None:
    code.map(1, map_)
    code.frame(2, key)
    code.call(LOOKUP)


def _load_address(code: Code, *, six: bool) -> None:
    """What the process dials, into the frame."""
    for word in range(4):
        if six:
            code.load(1, CONTEXT, IP6 + 4 * word)
            code.store(10, SERVICE + 4 * word, 1)
        elif word < 3:
            code.store_number(10, SERVICE + 4 * word, MAPPED if word == 2 else 0)
    if not six:
        code.load(1, CONTEXT, IP4)
        code.store(10, SERVICE + 12, 1)
    code.load(1, CONTEXT, PORT)
    code.store(10, SERVICE + 16, 1)


def _store_address(code: Code, source: int, *, six: bool) -> None:
    """Another address in place of the one that is dialled or named."""
    if six:
        for word in range(4):
            code.load(1, source, 4 * word)
            code.store(CONTEXT, IP6 + 4 * word, 1)
    else:
        code.load(1, source, 12)
        code.store(CONTEXT, IP4, 1)
    code.load(1, source, 16)
    code.store(CONTEXT, PORT, 1)


def _count(code: Code, counters: Map) -> None:
    code.load(1, FOUND, COUNTS)
    code.store(10, COUNTER, 1)
    _look(code, counters, COUNTER)
    code.jump_if(0, 0, "uncounted")
    code.set(1, 1)
    code.count(0, 1)
    code.label("uncounted")


def _remember(code: Code, peers: Map) -> None:
    code.copy(1, CONTEXT)
    code.call(COOKIE)
    code.store_long(10, OWN_COOKIE, 0)
    code.map(1, peers)
    code.frame(2, OWN_COOKIE)
    code.frame(3, SERVICE)
    code.set(4, 0)
    code.call(UPDATE)


PROGRAMS = {  # name -> hook and what makes it
    "connect4": (CONNECT4, connect, False),
    "connect6": (CONNECT6, connect, True),
    "peer4": (PEER4, peer, False),
    "peer6": (PEER6, peer, True),
}
