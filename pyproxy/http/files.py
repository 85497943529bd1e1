"""Which file a path means, and whether it may be shown: no socket, no HTTP.

As Go's file server, less three habits: nothing outside of the directory is reached
through a symbolic link, not even one that is put there meanwhile (see `beneath`);
directories are listed only where that is wanted; and what is neither file nor directory
does not exist.
"""

import contextlib
import html
import io
import mimetypes
import os
import posixpath
import re
import stat
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from pyproxy.http import beneath

INDEX = "index.html"
SNIFF_BYTES = 512
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_TEXT = "text/plain; charset=utf-8"
_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class File:
    """To be sent: an open file, to be closed by the caller, and its type."""

    file: io.FileIO
    type: str


@dataclass(frozen=True, slots=True)
class Moved:
    """To be asked for at a place relative to this one."""

    location: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A directory, as a page."""

    page: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """Not there, not to be shown (403), or not to be read."""

    status: int = 404


Found = File | Moved | Listing | Nothing


class Directory:
    """A directory whose files are shown."""

    def __init__(self, root: str, *, listing: bool = False) -> None:
        """`root` need not exist, and may come and go."""
        self._root = root
        self._listing = listing
        self._types = mimetypes.MimeTypes(filter(os.path.isfile, mimetypes.knownfiles))
        self._types.encodings_map.clear()  # a.tar.gz is a gzip file, not a tar file

    def find(self, raw_path: str) -> Found:
        """Return what is at a path, which is as sent: escaped, with its slashes."""
        path = os.fsdecode(unquote_to_bytes(raw_path.encode("latin-1")))
        if "\0" in path or ".." in path.split("/"):
            return Nothing()
        if path.endswith(f"/{INDEX}"):
            return Moved("./")
        try:
            with beneath.directory(self._root) as root:
                return self._find(root, path)
        except PermissionError:
            return Nothing(403)
        except (OSError, ValueError):
            return Nothing()

    def _find(self, root: int, path: str) -> Found:
        name = quote(posixpath.basename(path.rstrip("/")))
        number = _open(root, path)
        mode = os.fstat(number).st_mode
        if stat.S_ISREG(mode) and not path.endswith("/"):
            return self._file(number, path)
        try:
            if not path.endswith("/"):
                return Moved(f"{name}/") if stat.S_ISDIR(mode) else Nothing()
            if not stat.S_ISDIR(mode):
                return Moved(f"../{name}")
            with contextlib.suppress(FileNotFoundError):
                index = _open(root, f"{path}{INDEX}")
                return self._file(index, INDEX)
            return Listing(_page(number)) if self._listing else Nothing()
        finally:
            os.close(number)

    def _file(self, number: int, name: str) -> Found:
        """Return what may be sent of an open file, which is ours from here on."""
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.close(number)
            return Nothing()
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(io.FileIO(number))
            kind = self._type_of(number, name)
            stack.pop_all()
            return File(file, kind)

    def _type_of(self, number: int, name: str) -> str:
        kind = self._types.guess_type(name)[0]
        if kind is not None:
            return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        start = os.pread(number, SNIFF_BYTES, 0)
        return _UNKNOWN if _BINARY.search(start) else _TEXT


def _open(root: int, path: str) -> int:
    # Not blocking: opening a named pipe would wait for a writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    return beneath.open_beneath(root, posixpath.normpath(path), flags)


def _page(number: int) -> str:
    lines = [
        "<!doctype html>",
        '<meta name="viewport" content="width=device-width">',
    ]
    lines.append("<pre>")
    with os.scandir(number) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
            # A colon in it would make the first segment a scheme.
            link = ("./" if ":" in name else "") + quote(os.fsencode(name))
            shown = os.fsencode(name).decode("utf-8", "replace")
            lines.append(f'<a href="{link}">{html.escape(shown)}</a>')
    return "\n".join([*lines, "</pre>", ""])
