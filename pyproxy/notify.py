"""What we tell systemd, sd_notify(3), and what it keeps for us."""

import contextlib
import os
import socket
import time
from collections.abc import Iterable, Sequence

from pyproxy.model import Key

PREFIX = "pyproxy-"  # of names of sockets that systemd keeps


class Notifier:
    """Tells systemd our state; silent without NOTIFY_SOCKET."""

    def __init__(self) -> None:
        self._path = os.environ.get("NOTIFY_SOCKET", "")
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        every_us = os.environ.get("WATCHDOG_USEC", "0")
        # Half of the time allowed, as sd_watchdog_enabled(3) advises; 0 = not wanted.
        self.watchdog_s = int(every_us) / 2e6 if ours and every_us.isdigit() else 0.0
        most = os.environ.get("FDSTORE", "0")
        self.stores = int(most) if self._path and most.isdigit() else 0  # descriptors

    def say(self, *lines: str) -> None:
        """Send one datagram; a supervisor that is gone is no reason to fail."""
        self._send("\n".join(lines).encode())

    def store(self, sockets: Sequence[tuple[Key, socket.socket]]) -> None:
        """Let systemd keep sockets for the process that it starts after us.

        Source: sd_pid_notify_with_fds(3); systemd.service(5), FileDescriptorStoreMax=.
        """
        for (host, port), each in sockets[: self.stores]:
            name = "".join(c if c.isalnum() or c == "." else "-" for c in host)
            text = f"FDSTORE=1\nFDNAME={PREFIX}{name}-{port}"
            self._send(text.encode(), each.fileno())

    def forget_stored(self, names: Iterable[str]) -> None:
        """Let systemd forget stored sockets that nobody wanted, by their names.

        They would go on listening, and their clients would wait for ever.
        """
        for name in names:
            if self.stores and name.startswith(PREFIX):
                self.say("FDSTOREREMOVE=1", f"FDNAME={name}")

    def say_reloading(self) -> None:
        """RELOADING=1 with the clock reading that Type=notify-reload wants."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.say("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def _send(self, text: bytes, *fds: int) -> None:
        if not self._path:
            return
        path = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
        ):
            notify.connect(path)
            if fds:
                socket.send_fds(notify, [text], fds)
            else:
                notify.send(text)
