"""A request that waits for a verdict, and what was read of it.

A verdict is remembered for requests that agree in the parts that its key names. If it
was computed from another part as well, a request that differs there would meet it. So a
Question notes each part that is read, and the engine refuses to remember a verdict
if its key lacks one. A policy should read no more than its decision needs.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple, Self

Pairs = tuple[tuple[str, str], ...]

PATH = ":path"
SEGMENT = ":segment"
WORD = ":path~"
MAX_DEPTH = 15
_DEPTH = re.compile(r":path/([1-9]|1[0-5])")


def depth_of(part: str) -> int:
    """Return n of ":path/n" (1 for ":segment"), 0 for any other part."""
    if part == SEGMENT:
        return 1
    depth = _DEPTH.fullmatch(part)
    return int(depth[1]) if depth else 0


def word_of(part: str) -> str:
    """Return the word of ":path~word", "" for any other part."""
    return part[len(WORD) :] if part.startswith(WORD) else ""


def is_plain(path: str) -> bool:
    """Whether nobody reads a path in another way than it stands there.

    It begins with a slash, and has no escapes, no empty segments, and none that begins
    with a dot.
    """
    return path.startswith("/") and not any(odd in path for odd in ("%", "//", "/."))


def path_to(path: str, n: int) -> str:
    """Return a path up to and with its n-th segment and the slash behind that.

    "/api/" of "/api/v1/pods" and 1. All of it if it has no such slash, or is not plain.
    """
    if not is_plain(path):
        return path
    segments = path.split("/")
    return "/".join([*segments[: n + 1], ""]) if len(segments) > n + 1 else path


class Certificate(NamedTuple):
    """The certificate of a client, as the handshake verified it."""

    subject: str  # as RFC 4514 writes it
    common_name: str  # the last one; "" = none
    organizations: tuple[str, ...]  # in their order
    not_after: int  # end of its validity, seconds since 1970
    der: bytes
    chain: bytes = b""  # what came along with it, DER one behind the other


class Question:
    """A request that waits for a verdict. Its bytes are Latin-1 as text.

    What is read is noted in `read`, by the name that a key has for it. Three things
    have no such name, so that no verdict that hangs on them is remembered: `target`,
    `minor` and all `headers` at once.
    """

    __slots__ = ("_facts", "_quiet", "_read", "refused", "ticket", "vip")

    def __init__(
        self,
        *,
        ticket: tuple[int, ...],
        vip: tuple[str, str, int],
        source: str,
        method: str,
        target: str,
        path: str,
        query: str,
        host: str,
        minor: int,
        upgrade: str,
        body: bool,
        refused: int,
        headers: Pairs,
        certificate: Certificate | None = None,
    ) -> None:
        """Note nothing as read."""
        self.ticket = ticket  # which exchange asks; for Engine.answer
        self.vip = vip
        self.refused = refused  # 401: the upstream's word on the last verdict, once
        self._facts = (
            source,
            method,
            target,
            path,
            query,
            host,
            minor,
            upgrade,
            body,
            headers,
            certificate,
        )
        self._read: set[str] = set()
        self._quiet = False

    def _note(self, part: str) -> None:
        if not self._quiet:
            self._read.add(part)

    @property
    def source(self) -> str:
        """IP of the client; "" = a unix socket."""
        self._note(":source")
        return self._facts[0]

    @property
    def method(self) -> str:
        """As sent."""
        self._note(":method")
        return self._facts[1]

    @property
    def target(self) -> str:
        """As sent: path and query, or a whole URL, or `*`."""
        self._note(":target")
        return self._facts[2]

    @property
    def path(self) -> str:
        """Of the target, as sent: up to '?', without scheme and authority."""
        self._note(PATH)
        return self._facts[3]

    def path_to(self, n: int) -> str:
        """Return the path up to its n-th segment: see `path_to` of this module.

        Raises:
            ValueError: n is not in 1-15.
        """
        if not 1 <= n <= MAX_DEPTH:
            raise ValueError(f"segment {n} is not in 1-{MAX_DEPTH}")
        self._note(f"{PATH}/{n}")
        return path_to(self._facts[3], n)

    def path_has(self, word: str) -> bool | None:
        """Whether a word is in the path; None = the path is not plain.

        The key has ":path~word" for it: of a plain path this one bit, else all of it.
        """
        self._note(WORD + word)
        path = self._facts[3]
        return word in path if is_plain(path) else None

    @property
    def query(self) -> str:
        """With its '?', or empty."""
        self._note(":query")
        return self._facts[4]

    @property
    def host(self) -> str:
        """Authority of an absolute target, else Host."""
        self._note(":host")
        return self._facts[5]

    @property
    def minor(self) -> int:
        """HTTP/1.minor."""
        self._note(":minor")
        return self._facts[6]

    @property
    def upgrade(self) -> str:
        """Value of Upgrade, all its lines as one list; "" = Connection names none."""
        self._note(":upgrade")
        return self._facts[7]

    @property
    def body(self) -> bool:
        """Whether there is one, or will be."""
        self._note(":body")
        return self._facts[8]

    @property
    def headers(self) -> Pairs:
        """All of them in order, names as sent."""
        self._note(":headers")
        return self._facts[9]

    @property
    def certificate(self) -> Certificate | None:
        """What the client has proved to be; None = it has shown no certificate."""
        self._note(":certificate")
        return self._facts[10]

    def headers_all(self, name: str) -> tuple[str, ...]:
        """Return the values of all lines of a header, in order."""
        name = name.lower()
        self._note(name)
        return tuple(v for n, v in self._facts[9] if n.lower() == name)

    def header(self, name: str) -> str | None:
        """Return all lines of a header as one list (RFC 9110 5.3); None = no line.

        A second line of a header that may have one value makes an invalid value: no
        policy decides by the first line alone.
        """
        lines = self.headers_all(name)
        return ", ".join(lines) if lines else None

    @property
    def read(self) -> frozenset[str]:
        """Parts that were read so far."""
        return frozenset(self._read)

    def unnamed(self, key: Iterable[str]) -> list[str]:
        """Return the parts that were read, and that `key` says nothing about."""
        named = set(key)
        deepest = max(map(depth_of, named), default=0)
        if PATH in named:
            deepest = MAX_DEPTH
        return sorted(
            part
            for part in self._read - named
            if not 0 < depth_of(part) <= deepest
            and not (PATH in named and word_of(part))
        )

    def again(self, *, refused: int = 0) -> Self:
        """Return the same question, of which nothing was read."""
        other = self._copy()
        other._read = set()
        other.refused = refused
        return other

    @property
    def aside(self) -> Self:
        """The same question; reading it is not noted. For logs, not for decisions."""
        other = self._copy()
        other._quiet = True
        return other

    def _copy(self) -> Self:
        other = object.__new__(type(self))
        for name in Question.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def __repr__(self) -> str:
        """Nothing that may be a secret."""
        return f"<Question {self.vip} {self._facts[1]} {self._facts[3]}>"
