"""Where we listen: a unix socket, or a port of one address or of all of them."""

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator

from pyproxy.discovery.names import resolve
from pyproxy.errors import ConfigError, StartError
from pyproxy.model import Key, format_address

EVERY = ("0.0.0.0", "::")
NO_IPV6 = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
UMASK = 0o077  # a socket is for its owner
LONGEST_PATH = 107  # of a socket, in bytes: sockaddr_un's


class UnixPlace:
    """A unix socket: ours alone, made anew, and gone when we are."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._ours: tuple[int, int] | None = None

    @property
    def key(self) -> Key:
        """Of its vip. Raise StartError where no socket can have such a path."""
        paths = (absolute(self.path), self.path)
        fitting = [p for p in paths if len(os.fsencode(p)) <= LONGEST_PATH]
        if not fitting:
            raise StartError(
                f"listen unix {self.path}: bind: invalid argument",
                f"the path of a socket has at most {LONGEST_PATH} bytes",
            )
        return (f"unix:{fitting[0]}", 0)

    def clear(self) -> None:
        """Remove a socket on which no process listens; leave all else alone."""
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                return
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                if probe.connect_ex(self.path) == errno.ECONNREFUSED:
                    os.unlink(self.path)

    def claim(self) -> None:
        """Remember that what is there now is ours."""
        self._ours = self._look()

    def remove(self) -> None:
        """Remove it, unless something else is there now."""
        if self._ours is not None and self._look() == self._ours:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self._ours = None

    def _look(self) -> tuple[int, int] | None:
        try:
            status = os.lstat(self.path)
        except OSError:
            return None
        # A file may have been given the number of a socket that was removed.
        ours = stat.S_ISSOCK(status.st_mode)
        return (status.st_dev, status.st_ino) if ours else None


async def hosts_of(address: str) -> tuple[str, ...]:
    """Return the IP literals to listen on. Both families for "every address", as Go.

    Raise StartError for a name that does not resolve.
    """
    bare = address[1:-1] if address.startswith("[") else address
    try:
        host = str(ipaddress.ip_address(bare))
    except ValueError:
        host = await _address_of(bare) if bare else ""
    return EVERY if host in ("", *EVERY) else (host,)


async def _address_of(name: str) -> str:
    try:
        return (await resolve(name))[0]
    except ConfigError as error:
        failed = f"listen tcp: lookup {name}: no such host"
        raise StartError(failed, str(error)) from error


class NoSuchFamilyError(StartError):
    """There is no IPv6 here."""


@contextlib.contextmanager
def refusals(where: str) -> Iterator[None]:
    """Say why an address could not be bound in kubectl's words."""
    try:
        yield
    except StartError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or not cause.errno:
            raise
        why = os.strerror(cause.errno).lower()
        kind = NoSuchFamilyError if cause.errno in NO_IPV6 else StartError
        network, _, path = where.partition(" ")
        hint = error.hint if network == "tcp" else _unix_hint(cause.errno, path)
        raise kind(f"listen {where}: bind: {why}", hint) from error


def _unix_hint(number: int, path: str) -> str:
    if number != errno.EADDRINUSE:
        return ""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            return "another program listens there (ss -lxp shows which)"
    return "what is there is no socket, and stays"


def shown(keys: list[Key]) -> str:
    """Return the address that is printed: of a pair, the one that stands for both."""
    return format_address(*keys[-1])


def absolute(path: str) -> str:
    """Return a path that means the same in every directory."""
    return os.path.abspath(path)


def local(address: str) -> str:
    """Return an address to dial whose host is on the default list."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else address
