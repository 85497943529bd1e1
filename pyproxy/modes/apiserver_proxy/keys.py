"""What of a request its verdict hangs on: the parts that were read of the question."""

from pyproxy.dataplane import WORD, Question
from pyproxy.http.identity import (
    IMPERSONATE_GROUP,
    IMPERSONATE_UID,
    IMPERSONATE_USER,
    PROTOCOLS,
    HeaderNames,
)
from pyproxy.http.proxypath import WORD as PROXY

PATH, DEPTH = ":path", ":path/"
# No key has these.
UNNAMED = frozenset(
    {":headers", ":target", ":minor", ":query", "origin", "sec-fetch-site"}
)
MOST_NAMES = 4  # of headers of front proxies, so that a key has few parts


def parts_of(names: HeaderNames | None, passed_header: str = "") -> tuple[str, ...]:
    """Return all parts that keys may name; `names` if there are front proxies."""
    parts: tuple[str, ...] = (
        *(PATH, WORD + PROXY, ":method", ":host", ":upgrade", ":certificate"),
        *("authorization", "accept", "user-agent", PROTOCOLS),
        *(IMPERSONATE_USER, IMPERSONATE_UID, IMPERSONATE_GROUP),
    )
    if names is not None:
        parts += (*names.user, *names.uid, *names.group)[:MOST_NAMES]
    if passed_header and passed_header not in parts:
        parts += (passed_header,)
    return parts


def key_of(question: Question) -> tuple[str, ...] | None:
    """Return the key for what was read; None = it is of no use to others."""
    read = question.read
    if read & UNNAMED:
        return None
    depths = {part: int(part[len(DEPTH) :]) for part in read if part.startswith(DEPTH)}
    plain = [part for part in read if part not in depths]
    if PATH in read:
        # The whole path says all that any part of it does.
        return tuple(sorted(part for part in plain if not part.startswith(WORD)))
    deepest = sorted(depths, key=lambda part: depths[part])[-1:]
    return tuple(sorted([*plain, *deepest]))  # one order: equal keys are one
