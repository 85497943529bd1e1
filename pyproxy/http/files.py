"""Which file a path means, and whether it may be shown: no socket, no HTTP.

As Go's file server, less three habits: nothing outside of the directory is reached
through a symbolic link, directories are listed only where that is wanted, and what is
neither file nor directory does not exist.
"""

import contextlib
import html
import mimetypes
import os
import posixpath
import re
import stat
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

INDEX = "index.html"
SNIFF_BYTES = 512
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_TEXT = "text/plain; charset=utf-8"
_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class File:
    """To be sent."""

    path: str
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
            real, mode = self._look(posixpath.normpath(f"/{path}"))
            name = quote(posixpath.basename(path.rstrip("/")))
            if stat.S_ISDIR(mode):
                return (
                    self._directory(real) if path.endswith("/") else Moved(f"{name}/")
                )
            return Moved(f"../{name}") if path.endswith("/") else self._file(real, mode)
        except PermissionError:
            return Nothing(403)
        except (OSError, ValueError):
            return Nothing()

    def _look(self, path: str) -> tuple[str, int]:
        """Return where a path really is, and the mode of that. Raise OSError."""
        root = os.path.realpath(self._root)
        real = os.path.realpath(f"{root}{path}")
        if real != root and not real.startswith(posixpath.join(root, "")):
            raise FileNotFoundError(path)
        return real, os.stat(real).st_mode

    def _directory(self, real: str) -> Found:
        with contextlib.suppress(FileNotFoundError):
            inside = real.removeprefix(os.path.realpath(self._root))
            return self._file(*self._look(f"{inside}/{INDEX}"))
        return Listing(self._page(real)) if self._listing else Nothing()

    def _file(self, real: str, mode: int) -> Found:
        if not stat.S_ISREG(mode):
            return Nothing()
        return File(real, self._type_of(real))

    def _type_of(self, real: str) -> str:
        kind = self._types.guess_type(real)[0]
        if kind is not None:
            return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
        with open(real, "rb") as file:
            return _UNKNOWN if _BINARY.search(file.read(SNIFF_BYTES)) else _TEXT

    def _page(self, real: str) -> str:
        lines = [
            "<!doctype html>",
            '<meta name="viewport" content="width=device-width">',
        ]
        lines.append("<pre>")
        with os.scandir(real) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                # A colon in it would make the first segment a scheme.
                link = ("./" if ":" in name else "") + quote(os.fsencode(name))
                shown = os.fsencode(name).decode("utf-8", "replace")
                lines.append(f'<a href="{link}">{html.escape(shown)}</a>')
        return "\n".join([*lines, "</pre>", ""])
