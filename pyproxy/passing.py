"""Listening sockets that Python opens, and the core shares, so that they can be passed.

The core opens its own sockets, one for each worker, where nobody is to have them after
us. Where a successor is, they are opened here, and the core takes duplicates.
"""

import errno
import logging
import socket
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from pyproxy.dataplane import Change, Dataplane
from pyproxy.errors import StartError, start_error
from pyproxy.model import Health, Key, Protocol, Vip, VipKey

logger = logging.getLogger(__name__)

BACKLOG = 4096  # of listeners; the kernel has a bound of its own (somaxconn)

Named = tuple[Key, socket.socket]


def listen(
    host: str, port: int, count: int = 1, protocol: Protocol = "tcp"
) -> list[socket.socket]:
    """Return sockets that listen there, or take datagrams. Raise OSError.

    The first one listens before it admits others: who listens there already is seen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    made: list[socket.socket] = []
    try:
        for number in range(count):
            each = socket.socket(family, kind)
            made.append(each)
            each.setblocking(False)
            # Of UDP, it would let others share the address unnoticed.
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, protocol == "tcp")
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, bool(number))
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind((host, port))
            if protocol == "tcp":
                each.listen(BACKLOG)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            port = each.getsockname()[1]
    except OSError:
        for each in made:
            each.close()
        raise
    return made


class Passed:
    """Listening sockets of this process that a successor may have; owns those of vips.

    What came from a predecessor waits here until somebody wants to listen there.
    """

    def __init__(self) -> None:
        self._waiting: dict[VipKey, list[socket.socket]] = {}
        self.of_vips: dict[VipKey, list[socket.socket]] = {}
        self._others: list[Named] = []  # owned by those that answer on them

    def expect(self, sockets: Iterable[Named]) -> None:
        """Own what came from a predecessor."""
        for key, each in sockets:
            self._waiting.setdefault((protocol_of(each), *key), []).append(each)

    def listen(
        self, host: str, port: int, given: Sequence[socket.socket] = ()
    ) -> list[socket.socket]:
        """Return sockets there for somebody to answer on. Raise OSError."""
        made = list(given) or self._waiting.pop(("tcp", host, port), [])
        made = made or listen(host, port)
        self._others = [pair for pair in self._others if pair[1].fileno() >= 0]
        self._others += [((host, port), each) for each in made]
        return made

    def open(self, vip: Vip, count: int) -> None:
        """Listen for a vip, with so many sockets if they are new. Raise OSError."""
        waiting = self._waiting.pop(vip.key, [])
        made = waiting or listen(vip.host, vip.port, count, vip.protocol)
        self.of_vips[vip.key] = made

    def close(self, key: VipKey) -> None:
        """Listen no more for a vip."""
        for each in self.of_vips.pop(key, ()):
            each.close()

    def forget_rest(self) -> None:
        """Close what nobody wanted."""
        if self._waiting:
            extra = {"count": len(self._waiting)}
            logger.info("sockets of the predecessor not needed", extra=extra)
        for key in list(self._waiting):
            for each in self._waiting.pop(key):
                each.close()

    def all(self) -> list[Named]:
        """Return every socket that listens now."""
        of_vips = self.of_vips.items()
        found = [(key[1:], each) for key, many in of_vips for each in many]
        return found + [pair for pair in self._others if pair[1].fileno() >= 0]

    def close_all(self) -> None:
        """Close what is owned here; what others hold of it goes on."""
        for key in list(self.of_vips):
            self.close(key)
        self.forget_rest()


class PassableDataplane(Dataplane):
    """A core that listens on sockets of ours, so that they can be handed over."""

    passed: Passed
    given: Mapping[Key, Sequence[int]]

    @classmethod
    def passing(
        cls,
        workers: int | None,
        passed: Passed,
        given: Mapping[Key, Sequence[int]],
    ) -> "PassableDataplane":
        """Start a core. `given` are borrowed from a supervisor.

        Raises:
            StartError: the system refuses.
        """
        made = cls.open(workers)
        assert isinstance(made, cls)
        made.passed, made.given = passed, given
        return made

    def update(
        self, change: Change, *, health: Mapping[Key, Health] = MappingProxyType({})
    ) -> int:
        """As it is; sockets are opened before, and closed after."""
        opened = self._open(change.vips)
        of_vips = self.passed.of_vips
        ours: dict[str, dict[Key, Sequence[int]]] = {"tcp": {}, "udp": {}}
        for vip in change.vips:
            if vip.key in of_vips:
                fds = [each.fileno() for each in of_vips[vip.key]]
                ours[vip.protocol][vip.key[1:]] = fds
        self.sockets = ChainMap(ours["tcp"], dict(self.given))
        self.datagrams = ours["udp"]
        try:
            generation = super().update(change, health=health)
        except BaseException:
            for key in opened:
                self.passed.close(key)
            raise
        put = {vip.key for vip in change.vips}
        for key in change.remove_vips:
            if key not in put:
                self.passed.close(key)
        return generation

    def _open(self, vips: Iterable[Vip]) -> list[VipKey]:
        opened: list[VipKey] = []
        try:
            for vip in vips:
                is_given = vip.protocol == "tcp" and vip.key[1:] in self.given
                known = vip.key in self.passed.of_vips or is_given
                if vip.bind and not known and is_ip(vip.host):
                    self.passed.open(vip, self.workers)
                    opened.append(vip.key)
        except OSError as error:
            for key in opened:
                self.passed.close(key)
            raise _cannot_listen(vip.key[1:], error) from error
        return opened


def protocol_of(passed: socket.socket) -> Protocol:
    """Return what a socket is of: a message names only its address."""
    return "udp" if passed.type == socket.SOCK_DGRAM else "tcp"


def is_ip(host: str) -> bool:
    """Whether it is one rather than the path of a unix socket."""
    return not host.startswith(("unix:", "/"))


def _cannot_listen(key: Key, error: OSError) -> StartError:
    where = f"cannot listen on {key[0]} port {key[1]}"
    shown = OSError(error.errno or errno.EIO, f"{where}: {error.strerror}")
    return start_error(shown)
