"""Which requests may pass, by path, host, method, and the origin that caused them.

The words and their order are kubectl's. What is beyond it: an IPv6 host with a port is
recognised, and requests that a page of another origin causes are told apart.
"""

from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from pyproxy.dataplane import Question
from pyproxy.http.pattern import Patterns

ACCEPT_HOSTS = r"^localhost$,^127\.0\.0\.1$,^\[::1\]$"
ACCEPT_PATHS = "^.*"
REJECT_PATHS = "^/api/.*/pods/.*/exec,^/api/.*/pods/.*/attach"
REJECT_METHODS = "^$"

KEPT = 64  # methods and hosts, and what was found
MOST_WORDS, LONGEST = 7, 64  # what a key of the core has room for
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # RFC 9110 9.2.1, less TRACE


class Filter:
    """Lists of patterns; the first of four rules that hits decides."""

    def __init__(
        self,
        accept_paths: str = ACCEPT_PATHS,
        reject_paths: str = REJECT_PATHS,
        accept_hosts: str = ACCEPT_HOSTS,
        reject_methods: str = REJECT_METHODS,
    ) -> None:
        """Raise PatternError for a pattern that is none."""
        self._accept_paths = Patterns(accept_paths)
        self._reject_paths = Patterns(reject_paths)
        self._accept_hosts = Patterns(accept_hosts)
        self._reject_methods = Patterns(reject_methods)
        self.accepts_all_but_path = lru_cache(KEPT)(self._look_at_rest)
        # The core can tell which of these a path has; None = they do not tell enough.
        self.words = _words_of(self._reject_paths, self._accept_paths)

    def accepts(self, method: str, path: str, authority: str) -> bool:
        """Whether a request passes; `path` is decoded and without query."""
        return self.accepts_path(path) and self.accepts_all_but_path(method, authority)

    def accepts_path(self, path: str) -> bool:
        """Whether a path passes; it is decoded and without query."""
        return not self._reject_paths.match(path) and self._accept_paths.match(path)

    def judge(self, has: Callable[[str], bool | None]) -> bool | None:
        """Whether a path passes, by which of `words` it has; None = they do not tell.

        `has` says None where it does not know.
        """
        if self.words is None:
            return None
        rejected = _hits(self._reject_paths, has)
        accepted = _hits(self._accept_paths, has)
        if rejected is None or accepted is None:
            return None
        return accepted and not rejected

    def _look_at_rest(self, method: str, authority: str) -> bool:
        """Whether a request passes whose path does."""
        return not self._reject_methods.match(method) and self.accepts_host(authority)

    def accepts_host(self, authority: str) -> bool:
        """Whether a Host header, less its port, is on the list."""
        host = host_of(authority)
        if self._accept_hosts.match(host):
            return True
        # The default list has `[::1]`, which without this only matches if no port
        # follows: splitting takes the brackets along.
        bracketed = authority.startswith("[") and ":" in host and host != authority
        return bracketed and self._accept_hosts.match(f"[{host}]")


def _words_of(*every: Patterns) -> tuple[str, ...] | None:
    """Return words without one of which no pattern hits that does not always."""
    words: set[str] = set()
    for patterns in every:
        if patterns.words is None:
            return None
        words |= patterns.words
    words.discard("")
    fits = len(words) <= MOST_WORDS and all(len(word) <= LONGEST for word in words)
    return tuple(sorted(words)) if fits else None


def _hits(patterns: Patterns, has: Callable[[str], bool | None]) -> bool | None:
    """Whether one of them matches a path, if words tell."""
    words = patterns.words
    assert words is not None
    if "" in words:
        return True
    return False if all(has(word) is False for word in words) else None


def host_of(authority: str) -> str:
    """Return what stands before the port, or all of it if it cannot be split.

    Source: Go, net.SplitHostPort; what it refuses comes back unchanged.
    """
    before, colon, port = authority.rpartition(":")
    if not colon:
        return authority
    if authority.startswith("["):
        end = authority.find("]")
        odd = end + 1 != len(before) or "[" in authority[1:] or "]" in port
        return authority if odd else authority[1:end]
    odd = ":" in before or bool(set("[]") & set(authority))
    return authority if odd else before


def is_safe(question: Question) -> bool:
    """Whether a request changes nothing; an upgrade may, whatever its method."""
    return question.method in SAFE_METHODS and not question.upgrade


def is_cross_site(question: Question) -> bool:
    """Whether a page of another origin makes the user's browser change something.

    Browsers say where a request comes from; other programs do not, and are never
    refused.

    Source: Go, net/http.CrossOriginProtection.
    """
    if is_safe(question):
        return False
    site = question.header("sec-fetch-site")
    if site:
        return site not in ("same-origin", "none")
    origins = [origin for origin in question.headers_all("origin") if origin]
    upgrades = question.upgrade != ""
    return not all(_is_near(origin, question.host, upgrades) for origin in origins)


def _is_near(origin: str, host: str, upgrades: bool) -> bool:
    """Whether a page is ours, or of this machine.

    Of this machine: client-go's WebSocket dialer says `http://localhost` wherever it
    goes, and of upgrades no more than that passes: a browser does not send
    Sec-Fetch-Site with a WebSocket, as it would have with another request.
    """
    try:
        url = urlsplit(origin)
        name = url.hostname or ""
    except ValueError:
        return False
    if url.netloc.lower() == host.lower():
        return True
    if url.scheme not in ("http", "https") or "@" in url.netloc:
        return False
    if upgrades:
        return url.netloc.lower() == "localhost"
    try:
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
