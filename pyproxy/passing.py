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
from pyproxy.model import Health, Key, Vip

logger = logging.getLogger(__name__)

BACKLOG = 4096  # of listeners; the kernel has a bound of its own (somaxconn)

Named = tuple[Key, socket.socket]


def listen(host: str, port: int, count: int = 1) -> list[socket.socket]:
    """Return sockets that listen there, side by side. Raise OSError.

    The first one listens before it admits others: who listens there already is seen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made: list[socket.socket] = []
    try:
        for number in range(count):
            each = socket.socket(family, socket.SOCK_STREAM)
            made.append(each)
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, bool(number))
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind((host, port))
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
        self._waiting: dict[Key, list[socket.socket]] = {}
        self.of_vips: dict[Key, list[socket.socket]] = {}
        self._others: list[Named] = []  # owned by those that answer on them

    def expect(self, sockets: Iterable[Named]) -> None:
        """Own what came from a predecessor."""
        for key, each in sockets:
            self._waiting.setdefault(key, []).append(each)

    def listen(
        self, host: str, port: int, given: Sequence[socket.socket] = ()
    ) -> list[socket.socket]:
        """Return sockets there for somebody to answer on. Raise OSError."""
        made = list(given) or self._waiting.pop((host, port), [])
        made = made or listen(host, port)
        self._others = [pair for pair in self._others if pair[1].fileno() >= 0]
        self._others += [((host, port), each) for each in made]
        return made

    def open(self, key: Key, count: int) -> None:
        """Listen for a vip, with so many sockets if they are new. Raise OSError."""
        self.of_vips[key] = self._waiting.pop(key, []) or listen(*key, count)

    def close(self, key: Key) -> None:
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
        found = [(key, each) for key, many in self.of_vips.items() for each in many]
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
        named = {vip.key[1:] for vip in change.vips if vip.key[1:] in of_vips}
        ours: dict[Key, Sequence[int]] = {
            key: [each.fileno() for each in of_vips[key]] for key in named
        }
        self.sockets = ChainMap(ours, dict(self.given))
        try:
            generation = super().update(change, health=health)
        except BaseException:
            for key in opened:
                self.passed.close(key)
            raise
        put = {vip.key for vip in change.vips}
        for protocol, host, port in change.remove_vips:
            if protocol == "tcp" and (protocol, host, port) not in put:
                self.passed.close((host, port))
        return generation

    def _open(self, vips: Iterable[Vip]) -> list[Key]:
        opened: list[Key] = []
        try:
            for vip in vips:
                key = (vip.host, vip.port)
                known = key in self.passed.of_vips or key in self.given
                if vip.protocol == "tcp" and vip.bind and not known and is_ip(vip.host):
                    self.passed.open(key, self.workers)
                    opened.append(key)
        except OSError as error:
            for key in opened:
                self.passed.close(key)
            raise _cannot_listen(key, error) from error
        return opened


def is_ip(host: str) -> bool:
    """Whether it is one rather than the path of a unix socket."""
    return not host.startswith(("unix:", "/"))


def _cannot_listen(key: Key, error: OSError) -> StartError:
    where = f"cannot listen on {key[0]} port {key[1]}"
    shown = OSError(error.errno or errno.EIO, f"{where}: {error.strerror}")
    return start_error(shown)
