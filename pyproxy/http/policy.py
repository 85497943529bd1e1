"""From a question to a verdict: `decide`, a pure function.

Route, then filter, then say where the request goes and with which headers. A verdict
names no more parts of the request than it depended on: what it does not name, the core
need not ask about again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

from pyproxy.dataplane import Forward, Question, Reply
from pyproxy.http import replies
from pyproxy.http.filter import Filter, is_cross_site, is_safe
from pyproxy.http.route import (
    CONTEXTS,
    Api,
    Asterisk,
    ContextList,
    Malformed,
    Missing,
    Redirect,
    Route,
    Router,
    Static,
)

Pairs = tuple[tuple[str, str], ...]
Key = tuple[str, ...]

STATIC = "static"  # name of the upstream of static files
REMEMBER_S = 3600.0  # unless credentials end before; changes withdraw it anyway
AUTHORIZATION = "authorization"
IMPERSONATE = "impersonate-user"
# All that a verdict may name.
PARTS: Key = (
    ":path",
    ":segment",
    ":method",
    ":host",
    ":upgrade",
    "origin",
    "sec-fetch-site",
    AUTHORIZATION,
    IMPERSONATE,
)
# No client needs it: curl offers it by itself, and once a backend accepts, requests
# pass without any policy. Source: kubernetes issue 72112.
REFUSED_UPGRADES = ("h2c",)


@dataclass(frozen=True, slots=True)
class Target:
    """An apiserver, as requests to it need to know it."""

    upstream: str
    host: str  # for the Host header
    path: str = ""  # of the server's URL, to stand before the request's; no slash last
    impersonate: Pairs = ()
    takes_credential: bool = False
    lost: str = ""  # why it cannot be dialed


@dataclass(frozen=True, slots=True)
class Credential:
    """What a request without an Authorization header of its own gets."""

    authorization: str = field(default="", repr=False)  # "" = none after all
    ttl_s: float = REMEMBER_S
    renewable: bool = False  # after a 401 there may be a better one


@dataclass(frozen=True, slots=True)
class Settings:
    """What one listener does."""

    router: Router
    targets: Mapping[str, Target]  # by context; "" = what has no context in its path
    filter: Filter | None
    allow_cross_site: bool = False
    user_agent: str = "pyproxy"
    current: str = ""  # name of the context that "" is


class Verdict(NamedTuple):
    """For `Dataplane.answer`."""

    answer: Forward | Reply
    key: Key = ()
    ttl_s: float = 0.0


class Need(NamedTuple):
    """No verdict without the credential of this context, or without another one."""

    context: str
    rejected: bool = False  # the last one was answered with a 401


def decide(
    question: Question, settings: Settings, credentials: Mapping[str, Credential]
) -> Verdict | Need:
    """Say what becomes of a request, or which credential is missing to say it."""
    route = _route(question, settings)
    match route:
        case Asterisk():
            return Verdict(replies.of_asterisk(question.method))
        case Malformed():
            return Verdict(replies.BAD_REQUEST, (":path",), REMEMBER_S)
        case Redirect(path):
            return Verdict(replies.redirect(question, path))
        case Missing():
            return Verdict(replies.NOT_FOUND, (":path",), REMEMBER_S)
        case Api():
            return _api(question, route, settings, credentials)
        case Static(strip):
            return _static(question, strip, settings)
        case ContextList():
            return _context_list(question, settings)


def _route(question: Question, settings: Settings) -> Route:
    """Find the route of a request, by no more of its path than that takes."""
    if settings.router.is_shallow:
        route = settings.router.route(question.path_to(1))
        # A filter reads the whole path; the name of a context is its second segment.
        filtered = isinstance(route, Api) and settings.filter is not None
        if not filtered and not isinstance(route, ContextList):
            return route
    return settings.router.route(question.path)


def _api(
    question: Question,
    route: Api,
    settings: Settings,
    credentials: Mapping[str, Credential],
) -> Verdict | Need:
    refusal, key = _refusal(question, route, settings)
    if refusal is not None:
        return Verdict(refusal, key, REMEMBER_S)
    target = settings.targets.get(route.context)
    if target is None:
        return Verdict(replies.NOT_FOUND)
    if target.lost:
        return Verdict(replies.plain(500, target.lost))
    credential = Credential()
    if target.takes_credential:
        known = credentials.get(route.context)
        own = False
        if known is None or known.renewable or question.refused:
            key += (AUTHORIZATION,)
            own = bool(question.header(AUTHORIZATION))
        if not own and (known is None or question.refused):
            return Need(route.context, rejected=bool(question.refused))
        # A 401 for a client's own token is no reason to renew ours.
        if known is not None and not (own and known.renewable):
            credential = known
    impersonate: Pairs = ()
    if target.impersonate:
        key += (IMPERSONATE,)
        impersonate = () if question.header(IMPERSONATE) else target.impersonate
    default: Pairs = (("User-Agent", settings.user_agent),)
    if credential.authorization:
        default += (("Authorization", credential.authorization),)
    forward = Forward(
        target.upstream,
        host=target.host,
        strip=route.strip,
        prefix=target.path,
        set=impersonate,
        default=default,
        forwarded_for=True,
        upgrades=_upgrades(question.upgrade),
        ask_on=401 if credential.renewable else 0,
    )
    return Verdict(forward, key, min(REMEMBER_S, credential.ttl_s))


def _refusal(
    question: Question, route: Api, settings: Settings
) -> tuple[Reply | None, Key]:
    """Return why a request may not pass, if so, and what that and the route hang on."""
    whole = settings.filter is not None or bool(route.context)
    where = ":path" if whole else _place(settings)
    key: Key = (where, ":method", ":upgrade")
    if settings.filter is not None:
        key += (":host",)
        if not settings.filter.accepts(question.method, route.path, question.host):
            return replies.FORBIDDEN, key
    if settings.allow_cross_site or is_safe(question):
        return None, key
    key += ("origin", "sec-fetch-site")
    if ":host" not in key:
        key += (":host",)
    return replies.CROSS_SITE if is_cross_site(question) else None, key


def _place(settings: Settings) -> str:
    """Return the part of a request that says which prefix it has."""
    return ":segment" if settings.router.is_shallow else ":path"


def _upgrades(wanted: str) -> tuple[str, ...] | None:
    words = [word.strip().lower() for word in wanted.split(",")]
    return () if set(words) & set(REFUSED_UPGRADES) else None


def _static(question: Question, strip: int, settings: Settings) -> Verdict:
    key: Key = (_place(settings),)
    if settings.filter is not None:
        key += (":host",)
        if not settings.filter.accepts_host(question.host):
            return Verdict(replies.FORBIDDEN, key, REMEMBER_S)
    # Encoded variants of a file (x.gz beside x) are not served.
    remove = ("Accept-Encoding", "Authorization", "Cookie")
    forward = Forward(STATIC, strip=strip, remove=remove)
    return Verdict(forward, key, REMEMBER_S)


def _context_list(question: Question, settings: Settings) -> Verdict:
    if settings.filter is not None and not settings.filter.accepts_host(question.host):
        return Verdict(replies.FORBIDDEN)
    served = [
        {
            "name": name,
            "path": f"{CONTEXTS}{quote(name, safe='')}/",
            "current": name == settings.current,
        }
        for name in sorted(filter(None, settings.targets))
    ]
    body = json.dumps({"contexts": served}, indent=2) + "\n"
    return Verdict(replies.of_json(body))
