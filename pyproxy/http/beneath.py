"""Open a file below a directory, whatever happens to the names on the way meanwhile.

A path that is checked and then opened by its name can lead elsewhere in between: a
directory is swapped for a symbolic link. So the kernel is asked to resolve and open in
one step and never to leave the directory; where it cannot, each component is opened
below the one before.

Source: openat2(2), RESOLVE_BENEATH.
"""

import contextlib
import ctypes
import errno
import functools
import os
import stat
from collections.abc import Iterator

MOST_LINKS = 40  # on one path, the kernel's own bound
RETRIES = 16  # for a rename amid the kernel's walk

_SYS_OPENAT2 = 437  # on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
# What the kernel does not do for us: there is no such call, a sandbox forbids it, or
# the path has an absolute link, which may lead back inside.
_WALK_INSTEAD = (errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.EXDEV)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


@contextlib.contextmanager
def directory(path: str) -> Iterator[int]:
    """Hold a directory open, to be opened below. Raise OSError."""
    number = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield number
    finally:
        os.close(number)


def open_beneath(root: int, path: str, flags: int) -> int:
    """Return a descriptor of what `path` means below the directory `root`.

    Symbolic links are followed as long as they stay inside. Raise OSError; for what is
    outside, FileNotFoundError.
    """
    path = path.strip("/") or "."
    try:
        return _openat2(root, path, flags | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _WALK_INSTEAD:
            raise
    return walk_beneath(root, path, flags)


def walk_beneath(root: int, path: str, flags: int) -> int:
    """Do the same step by step; nothing is asked of the kernel that it may not know."""
    with contextlib.ExitStack() as stack:
        held = [(root, ".")]  # descriptors from the root down, and their names
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                if len(held) == 1:
                    raise FileNotFoundError(errno.ENOENT, "outside", path)
                held.pop()
            elif part not in ("", "."):
                step = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
                number = os.open(part, step, dir_fd=held[-1][0])
                stack.callback(os.close, number)
                if not stat.S_ISLNK(os.fstat(number).st_mode):
                    held.append((number, part))
                    continue
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink("", dir_fd=number)
                if target.startswith("/"):
                    target = _inside(root, target)
                    del held[1:]
                todo += target.split("/")[::-1]
        parent = held[-2][0] if len(held) > 1 else root
        # It may have become a link meanwhile.
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(held[-1][1], flags, dir_fd=parent)


def _inside(root: int, target: str) -> str:
    """Return an absolute path as one below the root. Raise FileNotFoundError."""
    top = os.readlink(f"/proc/self/fd/{root}")
    below = target.removeprefix(top)
    if below == target or (below and not below.startswith("/") and top != "/"):
        raise FileNotFoundError(errno.ENOENT, "outside", target)
    return below


def _openat2(root: int, path: str, flags: int) -> int:
    how = _OpenHow(flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    for _ in range(RETRIES):
        number: int = _libc().syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(root),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if number >= 0:
            return number
        failed = ctypes.get_errno()
        if failed not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(failed, os.strerror(failed), path)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
