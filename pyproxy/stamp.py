"""Has a file changed? One answer for every file that others write."""

import os
import stat
from collections.abc import Iterable

Stamp = tuple[int, ...]


def stamp(file: str) -> Stamp | None:
    """Return what changes when a file does; None where there is none.

    Projected volumes swap a symlink, editors rename over it: device and inode change.
    The change time tells of chmod, too. What is no regular file, as in
    `--kubeconfig <(command)`, cannot be read twice and so does not change.
    """
    try:
        status = os.stat(file)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return (status.st_dev, status.st_ino)
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_dev, status.st_ino, *times, status.st_size)


def stamps(files: Iterable[str]) -> list[Stamp | None]:
    """Return the stamp of each."""
    return [stamp(file) for file in files]
