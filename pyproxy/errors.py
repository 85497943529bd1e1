"""What can go wrong, and with which exit code the program then ends.

Every message is written for the person at the terminal: what failed, where, and what
would help. A traceback is for bugs only.
"""

import errno
from collections.abc import Sequence

_HINTS = {
    errno.EADDRINUSE: "another program listens there (ss -ltnp shows which)",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address (ip address)",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE (setcap, or systemd's"
    " AmbientCapabilities=)",
    errno.EMFILE: "no file descriptor left (ulimit -n, systemd's LimitNOFILE=)",
}


class PyproxyError(Exception):
    """An error that the user can understand; unhandled, it ends the program."""

    exit_code = 1


class ConfigError(PyproxyError):
    """The configuration cannot be used. Each complaint names its place."""

    exit_code = 2

    def __init__(self, complaints: str | Sequence[str]) -> None:
        self.complaints = (
            (complaints,) if isinstance(complaints, str) else tuple(complaints)
        )
        super().__init__("\n".join(self.complaints))


class StartError(PyproxyError):
    """The system refused something that we need: an address, a descriptor, a file."""

    def __init__(self, failed: str, hint: str = "") -> None:
        self.failed = failed
        self.hint = hint
        super().__init__(f"{failed}; {hint}" if hint else failed)


def start_error(error: OSError) -> StartError:
    """Say what the system refused, and what would help."""
    return StartError(error.strerror or str(error), _HINTS.get(error.errno or 0, ""))
