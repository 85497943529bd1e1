"""A network namespace of the test's own, made and removed with iproute2."""

import ctypes
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000
SERIAL = count()
LOSE = """
    add table ip t;
    add chain ip t o { type filter hook output priority 0; };
    add rule ip t o %s drop
"""

TPROXY = """
    add table ip t;
    add chain ip t c { type filter hook prerouting priority -150; };
    add rule ip t c %s tproxy to :%d meta mark set 1
"""


@functools.cache
def obstacle() -> str:
    """Why namespaces cannot be made here, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need iproute2"
    try:  # root of a container may lack the rights
        NetNs().close()
    except RuntimeError as error:
        return f"network namespaces cannot be made: {error}"
    return ""


@functools.cache
def obstacle_to_loss() -> str:
    """Why packets cannot be lost on purpose in a namespace, or nothing."""
    if shutil.which("nft") is None:
        return "losing packets needs nftables"
    namespace = NetNs()
    try:  # the kernel may lack its half
        namespace.run("nft", LOSE % "tcp dport 1")
    except RuntimeError as error:
        return f"packets cannot be lost: {error}"
    finally:
        namespace.close()
    return ""


class NetNs:
    """One namespace with its loopback up. `close` removes it and its processes."""

    def __init__(self) -> None:
        self.name = f"pyproxy-{os.getpid()}-{next(SERIAL)}"
        self._ip("netns", "add", self.name)
        try:
            self.run("ip", "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def run(self, *command: str) -> str:
        """Run `command` inside and return what it printed."""
        return self._ip("netns", "exec", self.name, *command)

    def feed(self, text: str, *command: str) -> str:
        """Run `command` inside with `text` on its standard input."""
        return self._ip("netns", "exec", self.name, *command, text=text)

    def lose(self, which: str) -> None:
        """Drop packets that leave here, e.g. `tcp dport 81`; skip where none can be."""
        if why := obstacle_to_loss():
            pytest.skip(why)
        self.run("nft", LOSE % which)

    def tproxy(self, which: str, port: int) -> None:
        """Bring packets, e.g. `tcp dport 80`, to a transparent listener; skip if not.

        Source: Documentation/networking/tproxy.rst of the kernel.
        """
        if shutil.which("nft") is None:
            pytest.skip("TPROXY needs nftables")
        try:
            self.run("nft", TPROXY % (which, port))
        except RuntimeError as error:
            pytest.skip(f"TPROXY cannot be set up: {error}")
        self.run("ip", "rule", "add", "fwmark", "1", "lookup", "100")
        everything = ["local", "0.0.0.0/0", "dev", "lo", "table", "100"]
        self.run("ip", "route", "add", *everything)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread inside: sockets and threads made here live there."""
        with open("/proc/thread-self/ns/net") as home:
            with open(Path("/run/netns", self.name)) as inside:
                setns(inside.fileno())
            try:
                yield
            finally:
                setns(home.fileno())

    def close(self) -> None:
        """End what still runs inside, then remove the namespace."""
        for pid in self._ip("netns", "pids", self.name).split():
            # This very process shows up when a thread of it is still inside.
            if int(pid) != os.getpid():
                os.kill(int(pid), 9)
        self._ip("netns", "delete", self.name)

    @staticmethod
    def _ip(*arguments: str, text: str | None = None) -> str:
        done = subprocess.run(
            ["ip", *arguments], capture_output=True, text=True, check=False, input=text
        )
        if done.returncode != 0:
            raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


def setns(fd: int) -> None:
    """Move the calling thread (setns(2)); `os.setns` came with Python 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET) == -1:
        raise OSError(ctypes.get_errno(), "setns")
