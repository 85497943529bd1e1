"""Listening sockets that a supervisor opened for us, as sd_listen_fds(3) has it.

They outlive us: a client that connects while we restart waits in the queue of a socket
that the supervisor holds, and our successor serves it. The address of a socket tells
which listener it is for; its name is for people.
"""

import logging
import os
import socket
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Self

from pyproxy.model import Key, format_address

logger = logging.getLogger(__name__)

FIRST = 3  # SD_LISTEN_FDS_START
VARIABLES = ("LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class _Given:
    fd: int
    shown: str  # for people: its name, and what it is
    key: Key | None  # where it listens for TCP; None = it does not
    name: str = ""  # as the supervisor knows it


class Sockets:
    """The descriptors that were passed to this process; owns them."""

    def __init__(self, given: Iterable[_Given] = ()) -> None:
        self._given = list(given)
        self._by_key: dict[Key, list[int]] = {}
        for each in self._given:
            if each.key is not None:
                self._by_key.setdefault(each.key, []).append(each.fd)

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Self:
        """Take what was passed, and the variables that say so, from our children, too.

        To be called before anything else is opened: only its number tells a passed
        descriptor from others.
        """
        said = {name: environment.pop(name, "") for name in VARIABLES}
        if not said["LISTEN_FDS"]:
            return cls()
        pid = said["LISTEN_PID"]
        if pid != str(os.getpid()):  # of a parent that forgot to remove them
            extra = {"pid": os.getpid(), "listen_pid": pid}
            logger.warning("passed sockets are for another process", extra=extra)
            return cls()
        if not (said["LISTEN_FDS"].isascii() and said["LISTEN_FDS"].isdigit()):
            extra = {"listen_fds": said["LISTEN_FDS"]}
            logger.warning("passed sockets not understood", extra=extra)
            return cls()
        names = said["LISTEN_FDNAMES"].split(":")
        return cls(_look_at(int(said["LISTEN_FDS"]), names))

    @property
    def names(self) -> list[str]:
        """Names of those that are left, as the supervisor knows them."""
        return [each.name for each in self._given]

    @property
    def by_key(self) -> Mapping[Key, list[int]]:
        """Descriptors by the address where they listen; follows `keep` and `close`."""
        return self._by_key

    def keep(self, wanted: Iterable[Key]) -> None:
        """Close all but those of these addresses; say which, once."""
        wanted = set(wanted)
        unwanted = [each for each in self._given if each.key not in wanted]
        self._given = [each for each in self._given if each.key in wanted]
        self._drop(unwanted)
        if unwanted:
            what = ", ".join(each.shown for each in unwanted)
            logger.warning("no listener for passed sockets", extra={"what": what})
        if self._given:
            what = ", ".join(each.shown for each in self._given)
            logger.info("passed sockets taken over", extra={"what": what})

    def take_one(self, key: Key) -> list[socket.socket]:
        """Give those of an address away, to whoever answers there."""
        taken = [each for each in self._given if each.key == key]
        self._given = [each for each in self._given if each.key != key]
        self._by_key.pop(key, None)
        return [socket.socket(fileno=each.fd) for each in taken]

    def close(self) -> None:
        """Close all; what others hold of them goes on."""
        given, self._given = self._given, []
        self._drop(given)

    def _drop(self, given: Iterable[_Given]) -> None:
        for each in given:
            os.close(each.fd)
            if each.key is not None:
                self._by_key.pop(each.key, None)


def _look_at(count: int, names: list[str]) -> list[_Given]:
    found: list[_Given] = []
    for fd in range(FIRST, FIRST + count):
        try:
            os.set_inheritable(fd, False)
        except OSError:
            extra = {"promised": count, "found": len(found)}
            logger.warning("passed sockets are missing", extra=extra)
            break
        name = names[fd - FIRST] if fd - FIRST < len(names) else ""
        found.append(replace(_described(fd, name or f"descriptor {fd}"), name=name))
    return found


def _described(fd: int, name: str) -> _Given:
    try:
        view = socket.socket(fileno=fd)
    except OSError:
        return _Given(fd, f"{name} (no socket)", None)
    try:
        what, key = _use_of(view)
    finally:
        view.detach()
    return _Given(fd, f"{name} ({what})", key)


def _use_of(view: socket.socket) -> tuple[str, Key | None]:
    if view.family not in (socket.AF_INET, socket.AF_INET6):
        return "not of the internet", None
    host, port = view.getsockname()[:2]
    shown = format_address(host, port)
    if view.proto != socket.IPPROTO_TCP:
        return f"{shown}, not TCP", None
    if not view.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return f"{shown}, not listening", None
    return shown, (host, port)
