"""Start a command as systemd does (sd_listen_fds(3)): `activate.py FD,... COMMAND...`.

The descriptors become 3, 4, ... and the environment says so, for this very process.
"""

import fcntl
import os
import sys

FIRST = 3


def main() -> None:
    """Become the command."""
    fds = [int(number) for number in sys.argv[1].split(",")]
    # Out of the way first; those close on exec.
    aside = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
    for fd in fds:
        os.close(fd)
    for number, fd in enumerate(aside, FIRST):
        os.dup2(fd, number)
    os.environ.setdefault("LISTEN_PID", str(os.getpid()))
    os.environ["LISTEN_FDS"] = str(len(fds))
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
