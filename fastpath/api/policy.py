"""The words for HTTP between Python and the core: Http, Question, verdicts.

A listener with `Http` parses requests. One whose verdict is not remembered becomes a
Question (see question.py); Python answers with a verdict (Forward or Reply), and says
which parts of the request it depended on: requests that agree in those need no Python
until `ttl_s` is over. All of these are frozen values, checked when they are made.
"""

import ipaddress
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from fastpath.api.checks import check, check_count, check_seconds, check_text
from fastpath.api.errors import TableError
from fastpath.api.question import WORD, Certificate, Pairs, Question, word_of

__all__ = [
    "Certificate",
    "Failure",
    "Forward",
    "Http",
    "Question",
    "Quota",
    "Record",
    "Reply",
    "ResponseEdits",
]

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
PREFIX = re.compile(r"[^*]+-\*")  # of names; `x-*`, and not all of them
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")
PATH_WORD = re.compile(r"[!-~]{1,64}")
PATH_TEXT = re.compile(r"/(?:[!$&-;=@-Z_a-z~]|%[0-9A-Fa-f]{2})*")  # RFC 3986, 3.3
AUTHORITY = re.compile(r"(?:[!$&-+\-.0-9;=A-Z_a-z~]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")

# Parts of a request that a verdict may depend on, beside headers by name. ":path/n" of
# an answer's key, with n = 1 to 15, is the path up to its n-th segment and the slash
# behind that, and needs ":path" in Http.key; of a path with escapes, or with segments
# that are empty or begin with a dot, it is the whole. ":segment" is ":path/1", and goes
# by its own name. ":path~word", in Http.key as well, is whether the path has that word
# in it; of a path with escapes or odd segments it is the whole, too. ":certificate" is
# that of the client.
PARTS = (
    ":method",
    ":host",
    ":path",
    ":segment",
    ":query",
    ":upgrade",
    ":source",
    ":body",
    ":certificate",
)
MAX_KEY_PARTS = 24
MAX_FAILURE_BYTES = 4096
MAX_REPLY_BYTES = 1 << 20
MAX_EDITS = 64  # of a verdict; the core keeps one bit for each
MAX_EDITS_BYTES = 1 << 16
MAX_LOCATIONS = 16
MAX_RATE = 1 << 33  # bytes/s; a burst of it, in ns times bytes, fits 64 bits
MAX_PATH = 4096  # bytes of one that URLs are mapped to
MAX_LOG_TARGET = 32768
MAX_LOG_HEADERS = 8

# Edits must not change how long a message is, nor the host that it is for.
FRAMING = {
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
BODILESS = (204, 304)


def _check_part(part: object) -> None:
    known = part in PARTS
    if isinstance(part, str) and part.startswith(WORD):
        known = bool(PATH_WORD.fullmatch(word_of(part)))
    header = is_lower_token(part)
    check(known or header, f"{part!r} is neither a part of a request nor a header")


def is_lower_token(name: object) -> bool:
    return isinstance(name, str) and bool(TOKEN.fullmatch(name)) and name.islower()


def _check_pairs(what: str, pairs: Pairs) -> None:
    for name, value in pairs:
        named = isinstance(name, str) and bool(TOKEN.fullmatch(name))
        check(named, f"{what}: {name!r} is no header name")
        check(name.lower() not in FRAMING, f"{what}: {name} is not for edits")
        valued = isinstance(value, str) and bool(VALUE.fullmatch(value))
        # The value may be a secret.
        check(valued, f"{what}: the value of {name} has characters that it cannot")


def split_address(text: str) -> tuple[str, int]:
    """Return (ip, port) of "IP:PORT" or "[IP]:PORT"; TableError if it is neither."""
    found = ADDRESS.fullmatch(text) if isinstance(text, str) else None
    check(found is not None, f"address {text!r} is neither IP:PORT nor [IP]:PORT")
    assert found is not None
    try:
        ip = ipaddress.ip_address(found[1] or found[2])
    except ValueError:
        raise TableError(f"address {text!r} has no IP address") from None
    mapped = ip.version == 6 and (ip.ipv4_mapped or ip.scope_id)
    plain = (ip.version == 6) == bool(found[1]) and not mapped
    check(plain, f"address {text!r} is an IPv6 address without [ ], or an odd one")
    check(not ip.is_unspecified, f"address {text!r} is no place")
    check_count("port", int(found[3]), 1, 65535)
    return str(ip), int(found[3])


def _check_edits(remove: tuple[str, ...], pairs: Pairs, default: Pairs) -> None:
    for name in remove:
        check(bool(TOKEN.fullmatch(name)), f"{name!r} is no header name")
        check(name.lower() not in FRAMING, f"remove: {name} is not for edits")
        if "*" in name:
            plain = bool(PREFIX.fullmatch(name))
            framing = any(each.startswith(name[:-1].lower()) for each in FRAMING)
            check(plain and not framing, f"remove: {name!r} is no prefix for edits")
    _check_pairs("set", pairs)
    _check_pairs("default", default)
    edits = [*remove, *pairs, *default]
    check(len(edits) <= MAX_EDITS, f"more than {MAX_EDITS} headers to edit")
    size = sum(len(n) + len(v) + 4 for n, v in (*pairs, *default))
    check(size <= MAX_EDITS_BYTES, f"headers of {size} bytes to set")


def _check_path(what: str, path: object) -> None:
    plain = isinstance(path, str) and bool(PATH_TEXT.fullmatch(path))
    check(plain, f"{what}: {path!r} is no path as URLs have it")
    size = len(str(path))
    check(size <= MAX_PATH, f"{what} of {size} bytes, more than {MAX_PATH}")
    clean = not re.search(r"//|/\.\.?(/|\Z)", str(path))
    check(clean, f"{what}: {path!r} has empty or dot segments")


@dataclass(frozen=True, slots=True)
class Failure:
    """What a client reads if a request fails: why, escaped as in a string of JSON."""

    status: int
    headers: Pairs
    before: str
    after: str

    def __post_init__(self) -> None:
        if self.status not in (401, 429):
            check_count("status of a failure", self.status, 500, 599)
        named = self.status in set(HTTPStatus)
        check(named, f"status {self.status} has no name")
        _check_pairs("failure", self.headers)
        size = len(self.before.encode()) + len(self.after.encode())
        check(size <= MAX_FAILURE_BYTES, f"texts of {size} bytes around a failure")
        zero = "\0" in self.before + self.after
        check(not zero, "texts around a failure with a zero in them")

    @property
    def texts(self) -> tuple[bytes, bytes, bytes]:
        """Status line and headers; what stands before the reason, and behind it."""
        head = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return head.encode("latin-1"), self.before.encode(), self.after.encode()


@dataclass(frozen=True, slots=True)
class Http:
    """How a vip speaks HTTP/1.1 with its clients."""

    key: tuple[str, ...] = (":method", ":host", ":path")  # all that verdicts may name
    header_timeout_s: float = 60.0  # from its first byte to a whole head
    idle_timeout_s: float = 3600.0  # between requests
    park_timeout_s: float = 120.0  # for Python's verdict; then 503
    stall_timeout_s: float = 3600.0  # no byte of a body sent or taken; 0 = none
    gateway_status: int = 0  # for upstreams that fail; 0 = 502, 503 and 504
    gateway: Failure | None = None  # instead of that, and of plain text
    gateway_upgrade: Failure | None = None  # of requests to upgrade; None = the same
    not_upgraded: Failure | None = None  # answered by 2xx or 3xx; None = the same
    too_many: Failure | None = None  # no place in a quota; None = 429, plain text
    untrusted: Failure | None = None  # the client's certificate, by now; None = 401
    log: bool = False  # a record of each exchange, see Engine.records
    log_target: int = 0  # bytes of path and query in it; 0 = 256, and no query
    log_headers: tuple[str, ...] = ()  # in it: 512 bytes of the first line of each

    def __post_init__(self) -> None:
        for part in self.key:
            _check_part(part)
        check(len(set(self.key)) == len(self.key), f"key {self.key} repeats a part")
        check(len(self.key) <= MAX_KEY_PARTS, f"key of more than {MAX_KEY_PARTS} parts")
        longest = 2_000_000
        for name in ("header_timeout_s", "idle_timeout_s", "park_timeout_s"):
            check_seconds(name, getattr(self, name), longest, zero=False)
        check_seconds("stall_timeout_s", self.stall_timeout_s, longest, zero=True)
        if self.gateway_status:
            check_count("gateway status", self.gateway_status, 500, 599)
        check_count("log_target", self.log_target, 0, MAX_LOG_TARGET)
        for name in self.log_headers:
            check(is_lower_token(name), f"{name!r} is no header in lower case")
        few = len(self.log_headers) <= MAX_LOG_HEADERS
        check(few, f"more than {MAX_LOG_HEADERS} headers to log")


@dataclass(frozen=True, slots=True)
class ResponseEdits:
    """What becomes of the head of a response. 1xx are passed on as they are.

    A URL of Location or Content-Location is mapped if it is an absolute path, or if its
    authority is the upstream's (the address that was dialled, or `Forward.host`; it
    goes then, and its scheme) or one of `hosts` (it stays). The first pair of
    `location` whose path it begins with counts; a URL that is under the new path
    already stays. Paths match by whole segments, as bytes.

    With `html` URLs in pages of any status (whole, text/html, not encoded or by gzip or
    deflate) are mapped by the same rules, and upstreams are asked for no other
    encoding.
    """

    remove: tuple[str, ...] = ()  # by name or `prefix-*`; framing is not for edits
    set: Pairs = ()  # replace or add
    default: Pairs = ()  # add where there is none of that name, or an empty one
    location: Pairs = ()  # (path of the upstream, path that stands for it here)
    hosts: tuple[str, ...] = ()  # authorities by which clients call us
    # Put before the Path of every Set-Cookie, or for it; its Domain goes. "" = neither.
    cookie_path: str = ""
    upgrades: bool = False  # a 101 is edited, too
    html: bool = False  # pages as well as heads

    def __post_init__(self) -> None:
        _check_edits(self.remove, self.set, self.default)
        check(len(self.location) <= MAX_LOCATIONS, f"over {MAX_LOCATIONS} locations")
        for pair in self.location:
            check(len(pair) == 2, f"location {pair!r} is no pair of paths")
            for path in pair:
                _check_path("location", path)
        for host in self.hosts:
            named = isinstance(host, str) and bool(AUTHORITY.fullmatch(host))
            check(named, f"{host!r} is no authority")
        check(len(self.hosts) <= MAX_LOCATIONS, f"more than {MAX_LOCATIONS} hosts")
        if self.cookie_path:
            _check_path("cookie_path", self.cookie_path)
            check(";" not in self.cookie_path, "cookie_path with a semicolon")
        for _, path in self.location if self.html else ():
            # They would need an escape in a page, and no rule would know them again.
            plain = not {"&", "'"}.intersection(path)
            check(plain, f"location {path!r} has what pages of HTML escape")


@dataclass(frozen=True, slots=True)
class Quota:
    """What all requests together may take whose verdicts name it; 0 = no limit.

    One too many is answered 429. Bytes count in both directions, heads, bodies and
    tunnels; those beyond what a second allows, and 64 KiB at least, wait. The verdict
    that was given last says what the limits are.
    """

    name: str
    concurrent: int = 0  # requests; a tunnel is one as long as it lives
    bytes_per_s: int = 0

    def __post_init__(self) -> None:
        check_text("quota", self.name)
        check_count("concurrent requests", self.concurrent, 0, (1 << 32) - 1)
        check_count("bytes per second", self.bytes_per_s, 0, MAX_RATE)


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request on. Edits apply in the order of the fields."""

    upstream: str
    host: str = ""  # replaces Host; "" = as it came
    strip: int = 0  # bytes taken from the front of the path ...
    prefix: str = ""  # ... and put there instead
    remove: tuple[str, ...] = ()  # by name or `prefix-*`, besides hop-by-hop ones
    set: Pairs = ()  # replace or add
    default: Pairs = ()  # add where there is none of that name, or an empty one
    forwarded_for: bool = False  # append the client's ip to X-Forwarded-For
    upgrades: tuple[str, ...] | None = ()  # protocols; None = any; others are ignored
    ask_on: int = 0  # 401: such an answer waits while Python is asked again, once
    # Sent again, if it is idempotent and at hand, and a connection ends before any byte
    # of a response: once if it was a kept one, to other backends if it was a new one.
    replay: bool = True
    response: ResponseEdits | None = None
    address: str = ""  # "IP:PORT" to dial instead of the upstream's pool; IPv6 in [ ]
    quota: Quota | None = None

    def __post_init__(self) -> None:
        check_text("upstream", self.upstream)
        if self.address:
            split_address(self.address)
        _check_pairs("host", (("value", self.host),))
        check_count("strip", self.strip, 0, 32768)
        _check_pairs("prefix", (("prefix", self.prefix),))
        check(" " not in self.prefix, "prefix with a space")
        _check_edits(self.remove, self.set, self.default)
        for name in self.upgrades or ():
            check(bool(VALUE.fullmatch(name)) and "," not in name, f"upgrade {name!r}")
        check(self.ask_on in (0, 401), f"ask_on {self.ask_on} is neither 0 nor 401")


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the request without an upstream."""

    status: int
    body: bytes = b""
    headers: Pairs = ()  # Content-Length and Date are ours
    close: bool = False  # the connection, afterwards

    def __post_init__(self) -> None:
        check_count("status", self.status, 200, 599)
        check(len(self.body) <= MAX_REPLY_BYTES, "reply of more than 1 MiB")
        bodiless = self.status in BODILESS and self.body
        check(not bodiless, f"a reply {self.status} has no body")
        _check_pairs("reply", self.headers)


class Record(NamedTuple):
    """One exchange, for a log. A tunnel has two, when it begins and when it ends.

    Neither query nor header is in it unless Http says so: those hold secrets.
    """

    vip: tuple[str, str, int]
    source: str
    method: str
    path: str  # at most 256 bytes of it, or Http.log_target
    status: int  # 0 = none was sent
    bytes_up: int  # of the body, or sent through the tunnel so far
    bytes_down: int
    took_us: int  # from a whole head on
    began_us: int = 0  # of CLOCK_MONOTONIC
    id: int = 0  # of the exchange, in this engine: below 2 ** 62
    label: int = 0  # that Engine.answer was given with its verdict; 0 = none
    query: str = ""  # with its '?'
    headers: tuple[str | None, ...] = ()  # as Http.log_headers; None = no line
    is_cut: bool = False  # path or query are not all there
    is_over: bool = True  # False = a tunnel has begun
