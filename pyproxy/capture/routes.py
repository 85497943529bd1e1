"""Routes and rules that lead captured packets to this machine; addresses of bridges."""

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

from pyproxy.capture.layout import PROTOCOL, UPWARDS, Layout
from pyproxy.capture.netlink import (
    CREATE,
    EXCLUSIVE,
    ROUTE,
    Netlink,
    attribute,
    attributes,
    native,
    string,
)

NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR, DELETE_NEIGHBOUR, GET_NEIGHBOUR = 28, 29, 30
NEW_RULE, DELETE_RULE, GET_RULE = 32, 33, 34
GET_LINK = 18

ROUTE_HEADER = struct.Struct("=8BI")  # struct rtmsg; a rule's is laid out alike
LINK_HEADER = struct.Struct("=BxHiII")
NEIGHBOUR_HEADER = struct.Struct("=B3xiHBB")
LOCAL, HOST_SCOPE, UNIVERSE = 2, 254, 0
TO_TABLE = 1  # what a rule does
OUT, TABLE, ROUTE_PRIORITY = 4, 15, 6  # attributes of a route
PRIORITY, MARK, MASK, RULE_PROTOCOL = 6, 10, 16, 21  # attributes of a rule
NAME, LINK_INFO, LINK_KIND = 3, 18, 1
MAC = 2
PERMANENT, SELF = 0x80, 0x02
LOOPBACK = 1  # index of lo in every namespace
BRIDGE_FAMILY = 7  # PF_BRIDGE

FAMILIES = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
GONE = (errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV)
WITHOUT_FAMILY = (
    errno.EAFNOSUPPORT,
    errno.EOPNOTSUPP,
    errno.EACCES,  # net.ipv6.conf.*.disable_ipv6
    errno.EPERM,
    errno.ENODEV,
    errno.EINVAL,
)


class Routes:
    """Our routes, rules and entries of bridges."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._netlink = Netlink(ROUTE)
        self.families = dict(FAMILIES)  # those that this machine has

    def close(self) -> None:
        """Let go of the socket; routes stay."""
        self._netlink.close()

    def links(self) -> dict[int, tuple[str, str]]:
        """Name and kind of every interface, by index."""
        header = LINK_HEADER.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        found = {}
        for body in self._netlink.dump(GET_LINK, header):
            said = attributes(body[16:])
            info = attributes(said.get(LINK_INFO, b""))
            kind = string(info.get(LINK_KIND, b""))
            found[LINK_HEADER.unpack_from(body)[2]] = (string(said[NAME]), kind)
        return found

    def bridges(self) -> dict[str, int]:
        """Name and index of every bridge."""
        return {
            name: index
            for index, (name, kind) in self.links().items()
            if kind == "bridge"
        }

    def install(self) -> list[str]:
        """Add what is missing, and say what it was.

        Raises:
            OSError: the kernel refused.
        """
        added = []
        for name, family in list(self.families.items()):
            try:
                if self._add(NEW_ROUTE, self._route(family)):
                    added.append(f"{name} route of table {self._layout.table}")
                if self._rule(family) not in self._rules(family):
                    self._netlink.change(
                        NEW_RULE, CREATE | EXCLUSIVE, self._rule(family)
                    )
                    added.append(f"{name} rule {self._layout.priority}")
            except OSError as error:
                if family == socket.AF_INET or error.errno not in WITHOUT_FAMILY:
                    raise
                del self.families[name]
        for name, index in self.bridges().items():
            with contextlib.suppress(FileNotFoundError):
                if self._add(NEW_NEIGHBOUR, self._entry(index)):
                    added.append(f"entry of bridge {name}")
        return added

    def _add(self, kind: int, body: bytes) -> bool:
        """Whether it was not there yet."""
        try:
            self._netlink.change(kind, CREATE | EXCLUSIVE, body)
        except FileExistsError:
            return False
        return True

    def _route(self, family: int) -> bytes:
        small = self._layout.table if self._layout.table < 256 else 0
        scope = HOST_SCOPE if family == socket.AF_INET else UNIVERSE
        header = ROUTE_HEADER.pack(family, 0, 0, 0, small, PROTOCOL, scope, LOCAL, 0)
        lo = native(OUT, LOOPBACK)
        return header + lo + native(TABLE, self._layout.table)

    def _rule(self, family: int) -> bytes:
        small = self._layout.table if self._layout.table < 256 else 0
        header = ROUTE_HEADER.pack(family, 0, 0, 0, small, 0, 0, TO_TABLE, 0)
        return header + self._rule_attributes(
            self._layout.priority, self._layout.mark, self._layout.table
        )

    @staticmethod
    def _rule_attributes(priority: int, mark: int, table: int) -> bytes:
        """The body of a rule: its mask is its mark."""
        ours = attribute(RULE_PROTOCOL, bytes([PROTOCOL]))
        where = native(PRIORITY, priority) + native(TABLE, table)
        return where + native(MARK, mark) + native(MASK, mark) + ours

    def _rules(self, family: int) -> Iterator[bytes]:
        """Rules of ours of a family, each as what adds or deletes it."""
        header = ROUTE_HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
        for body in self._netlink.dump(GET_RULE, header):
            said = attributes(body[12:])
            if said.get(RULE_PROTOCOL) != bytes([PROTOCOL]) or MARK not in said:
                continue
            numbers = [struct.unpack("=I", said[k])[0] for k in (PRIORITY, MARK, TABLE)]
            small = numbers[2] if numbers[2] < 256 else 0
            head = ROUTE_HEADER.pack(family, 0, 0, 0, small, 0, 0, TO_TABLE, 0)
            yield head + self._rule_attributes(*numbers)

    def _routes(self, family: int) -> Iterator[bytes]:
        """Routes of ours of a family, each as what deletes it."""
        header = ROUTE_HEADER.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)
        for body in self._netlink.dump(GET_ROUTE, header):
            head = ROUTE_HEADER.unpack_from(body)
            if head[5] == PROTOCOL and head[7] == LOCAL:
                said = attributes(body[12:])
                yield (
                    body[:12]
                    + attribute(OUT, said[OUT])
                    + attribute(TABLE, said[TABLE])
                )

    def _entry(self, bridge: int) -> bytes:
        header = NEIGHBOUR_HEADER.pack(BRIDGE_FAMILY, bridge, PERMANENT, SELF, 0)
        return header + attribute(MAC, UPWARDS)

    def remove(self) -> bool:
        """Remove all that is ours, also under other numbers; false if there is none."""
        found = False
        for family in FAMILIES.values():
            for body in list(self._rules(family)):
                found |= self._delete(DELETE_RULE, body)
            for body in list(self._routes(family)):
                found |= self._delete(DELETE_ROUTE, body)
        for index in self.bridges().values():
            found |= self._delete(DELETE_NEIGHBOUR, self._entry(index))
        return found

    def _delete(self, kind: int, body: bytes) -> bool:
        """Whether it was there."""
        try:
            self._netlink.change(kind, 0, body)
        except OSError as error:
            if error.errno in GONE:
                return False
            raise
        return True
