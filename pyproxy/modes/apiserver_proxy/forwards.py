"""How requests are sent on: to what is behind a proxy URL, and to the apiserver."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import quote

from pyproxy.dataplane import Forward, Question, Quota, Reply, ResponseEdits
from pyproxy.discovery.targets import Location
from pyproxy.http.identity import IMPERSONATION, PROTOCOLS, HeaderNames, User
from pyproxy.http.proxypath import ProxyPath
from pyproxy.http.status import NOT_CACHED
from pyproxy.model import format_address
from pyproxy.modes.apiserver_proxy.config import ClientLimits

Pairs = tuple[tuple[str, str], ...]

PLAIN, SECURE, KUBELET = "http", "https", "kubelet"  # names of upstreams
REST, FRONT = "apiserver", "apiserver, in the name of others"
KEPT = 4096  # forwards that are made once
# A peer deletes exactly these.
CORS = tuple(
    f"access-control-allow-{name}"
    for name in ("credentials", "headers", "methods", "origin")
)
NO_FRONT_PROXY = (
    "a client certificate proves who you are to this proxy only: the apiserver would"
    " not see it. Use a token, or give the proxy a certificate of a front proxy"
    " (--proxy-client-cert-file)"
)
# No client needs it, and behind it requests pass without any policy.
# Source: kubernetes issue 72112.
REFUSED_UPGRADES = ("h2c",)
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_PREFIX = re.compile(r"/(?:[!$&-:=@-Z_a-z~]|%[0-9A-Fa-f]{2})*")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F))).replace("\\", "")


# What proves identity, and what nobody but us may say.
REMOVED = (
    *("authorization", *HeaderNames().all(), *IMPERSONATION),
    *("x-forwarded-host", "x-forwarded-prefix", "x-forwarded-proto"),
    "x-forwarded-uri",
)


@dataclass(frozen=True, slots=True)
class Edits:
    """What is the same for all requests to what is behind a proxy URL."""

    remove: tuple[str, ...] = REMOVED
    upgrades: tuple[str, ...] = ("websocket", "SPDY/3.1")
    verifies_kubelets: bool = False  # each has an upstream of its own then
    html: bool = True  # map URLs in pages


@dataclass(frozen=True, slots=True)
class Apiserver:
    """Where all other requests go."""

    host: str  # for the Host header
    path: str = ""  # of its URL, to stand before the request's
    front: bool = False  # whether it takes our word for who sends a request


def upstream_of(path: ProxyPath, location: Location, edits: Edits) -> str:
    """Return the name of the upstream that leads to a location."""
    if path.kind == "services":
        return f"services {path.namespace}/{path.id}"
    if location.kubelet:
        return f"{KUBELET} {location.kubelet}" if edits.verifies_kubelets else KUBELET
    return SECURE if location.scheme == "https" else PLAIN


@lru_cache(KEPT)
def forward(
    path: ProxyPath,
    location: Location,
    edits: Edits,
    host: str,
    *,
    protocols: str | None = None,
    authorization: str = "",
    uri: str = "",
    cleaned_uri: str = "",
) -> Forward:
    """Send a request to a location, less all that proves who its sender is.

    Args:
        path: what the proxy URL says; of a virtual host it has no prefix.
        location: where it leads.
        edits: what is the same for all.
        host: by which the client calls us.
        protocols: what stays of the WebSocket's subprotocols; None = all.
        authorization: for the backend, of the client's own; "" = none.
        uri: for X-Forwarded-Uri; "" = none.
        cleaned_uri: to send in place of the path; "" = the path as it came.
    """
    strip, prefix = path.strip, "" if path.rest else "/"
    if cleaned_uri:
        strip, prefix = path.strip + len(path.rest), cleaned_uri[path.strip :]
    headers: Pairs = (("X-Forwarded-Proto", "https"),)
    if path.prefix:
        headers += (("X-Forwarded-Prefix", _printable(path.prefix)),)
    if _AUTHORITY.fullmatch(host):
        headers += (("X-Forwarded-Host", host),)
    if uri:
        headers += (("X-Forwarded-Uri", _printable(uri)),)
    if authorization:
        headers += (("Authorization", authorization),)
    if protocols:
        headers += ((PROTOCOLS, protocols),)
    address = location.addresses[0]
    return Forward(
        upstream_of(path, location, edits),
        strip=strip,
        prefix=prefix,
        remove=edits.remove if protocols != "" else (*edits.remove, PROTOCOLS),
        set=headers,
        forwarded_for=True,
        upgrades=edits.upgrades,
        response=_response(path, host, html=edits.html),
        # Of a Service the core picks an endpoint, and another one if it is not there.
        address="" if path.kind == "services" else format_address(*address),
    )


def _response(path: ProxyPath, host: str, *, html: bool) -> ResponseEdits:
    """Keep what comes back below the prefix: places to go to, cookies, and pages."""
    if not path.prefix:
        # Of a virtual host: it is an origin of its own, whose CORS is its own affair.
        return ResponseEdits(
            default=(NOT_CACHED,), location=(("/", "/"),), cookie_path="/"
        )
    if not _PREFIX.fullmatch(path.prefix):
        return ResponseEdits(remove=CORS, default=(NOT_CACHED,))
    return ResponseEdits(
        remove=CORS,
        default=(NOT_CACHED,),
        location=(("/", path.prefix),),
        hosts=(host,) if _AUTHORITY.fullmatch(host) else (),
        cookie_path=path.prefix,
        # A page escapes these; no name of a Kubernetes object has them.
        html=html and not {"&", "'"}.intersection(path.prefix),
    )


def redirect(question: Question) -> Reply:
    """Send the client to the same place, with a slash at its end.

    Nothing that was escaped is decoded: no new line can come into the head.
    """
    query = question.query if len(question.query) > 1 else ""
    return Reply(
        301, headers=(("Location", _printable(f"{question.path}/{query}")), NOT_CACHED)
    )


def as_it_came(question: Question, apiserver: Apiserver) -> Forward:
    """Send a request to the apiserver: it finds out itself whose it is."""
    return Forward(
        REST,
        host=apiserver.host,
        prefix=apiserver.path,
        forwarded_for=True,
        upgrades=_upgrades(question),
    )


def in_the_name_of(
    question: Question, apiserver: Apiserver, user: User, names: HeaderNames
) -> Forward:
    """Send a request to the apiserver as that of a user whom we know."""
    headers: Pairs = (("X-Remote-User", _latin(user.name)),)
    if user.uid:
        headers += (("X-Remote-Uid", _latin(user.uid)),)
    headers += tuple(("X-Remote-Group", _latin(group)) for group in user.groups)
    for key, values in user.extra:
        name = f"X-Remote-Extra-{quote(key, safe='')}"
        headers += tuple((name, _latin(value)) for value in values)
    return Forward(
        FRONT,
        host=apiserver.host,
        prefix=apiserver.path,
        remove=("authorization", *HeaderNames().all(), *names.all()),
        set=headers,
        forwarded_for=True,
        upgrades=_upgrades(question),
    )


def limited(forward: Forward, limits: ClientLimits, user: User) -> Forward:
    """Let the request count as one of the user's, if users have limits."""
    if not limits.of_users:
        return forward
    quota = Quota(
        user.name,
        limits.max_requests_per_user,
        limits.max_bytes_per_second_per_user,
    )
    return replace(forward, quota=quota)


def _upgrades(question: Question) -> tuple[str, ...] | None:
    words = question.upgrade.lower().split(",")
    return () if any(w.strip() in REFUSED_UPGRADES for w in words) else None


def _printable(text: str) -> str:
    return quote(text.encode("latin-1", "replace"), safe=_PRINTABLE)


def _latin(text: str) -> str:
    """Return a text as the core takes it, whose bytes are those of UTF-8."""
    return text.encode().decode("latin-1")
