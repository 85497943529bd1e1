"""Which part of us a path belongs to: the API, static files, another context.

A path is matched segment by segment, each decoded by itself, and the longest prefix
wins. A path with empty or dot segments is sent to its clean self before anything else
looks at it; one without the slash that its prefix ends with, to the prefix.

Source: Go, net/http.ServeMux, as `kubectl proxy` sets it up.
"""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

CONTEXTS = "/contexts/"

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNCLEAN = re.compile(r"//|/\.\.?(?:/|\Z)")


@dataclass(frozen=True, slots=True)
class Api:
    """To the apiserver of `context`, without the first `strip` bytes."""

    strip: int
    path: str  # what is left, decoded
    context: str = ""


@dataclass(frozen=True, slots=True)
class Static:
    """To the static files, without the first `strip` bytes."""

    strip: int


@dataclass(frozen=True, slots=True)
class ContextList:
    """The contexts that are served."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """To another path; the query goes along."""

    path: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A path that leads nowhere."""


@dataclass(frozen=True, slots=True)
class Asterisk:
    """The server as such: `OPTIONS *`."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not a path."""


Route = Api | Static | ContextList | Redirect | Missing | Asterisk | Malformed


def with_slash(prefix: str) -> str:
    """Return a prefix as it is matched: with a slash at its end."""
    return prefix if prefix.endswith("/") else f"{prefix}/"


class Router:
    """Prefixes of one listener."""

    def __init__(
        self,
        api: str = "/",
        static: str = "",
        contexts: Sequence[str] | None = None,
    ) -> None:
        """Prefixes begin and end with a slash and are not equal; `static` "" = none.

        `contexts` None = nothing is special about their paths. If there are none now,
        a request for one that was there must not end up at the apiserver in use.
        """
        self._api = api
        self._contexts = frozenset(contexts or ())
        self._kinds = {api: self._to_api}
        if static:
            self._kinds[static] = self._to_static
        if contexts is not None:
            self._kinds[CONTEXTS] = self._to_context
        self._prefixes = sorted(self._kinds, key=len, reverse=True)
        # Whether the first segment of a plain path says which prefix it has.
        self.is_shallow = all(prefix.count("/") <= 2 for prefix in self._kinds)

    def route(self, path: str) -> Route:
        """Find the route of a path, which comes as sent, Latin-1 for bytes."""
        if path == "*":
            return Asterisk()
        if _BAD_ESCAPE.search(path) or (path and not path.startswith("/")):
            return Malformed()
        clean = clean_path(path)
        lacks_slash = (_length_of(p, clean + "/") == len(clean) for p in self._kinds)
        if not clean.endswith("/") and any(lacks_slash):
            return Redirect(clean + "/")
        if clean != path:
            return Redirect(clean)
        for prefix in self._prefixes:
            strip = _length_of(prefix, path)
            if strip is not None:
                return self._kinds[prefix](path, strip)
        return Missing()

    def _to_api(self, path: str, strip: int) -> Route:
        if self._api.startswith("/api"):
            strip = 0  # such a prefix is part of the API's own paths
        return Api(strip, decode(path[strip:]))

    def _to_static(self, path: str, strip: int) -> Route:
        return Static(strip)

    def _to_context(self, path: str, strip: int) -> Route:
        name, slash, _ = path[strip + 1 :].partition("/")
        if not name:
            return ContextList()
        if decode(name) not in self._contexts:
            return Missing()
        if not slash:
            return Redirect(path + "/")
        strip += 1 + len(name)
        return Api(strip, decode(path[strip:]), decode(name))


def clean_path(path: str) -> str:
    """Return a path without empty and dot segments; a slash at its end stays."""
    if path and path[0] == "/" and not _UNCLEAN.search(path):
        return path
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def decode(path: str) -> str:
    """Return a path with its escapes resolved, as text."""
    raw = path.encode("latin-1")
    return unquote_to_bytes(raw).decode("utf-8", "replace")


def _length_of(prefix: str, path: str) -> int | None:
    """Return how many bytes of a path stand for a prefix, less its last slash."""
    segments = prefix.split("/")[1:-1]
    parts = path.split("/")[1:]
    if len(parts) <= len(segments):
        return None
    if any(decode(part) != one for part, one in zip(parts, segments, strict=False)):
        return None
    return sum(len(part) + 1 for part in parts[: len(segments)])
