"""From a question to a verdict: `decide`, a pure function.

Route, then filter, then say where the request goes and with which headers. A verdict
names no more parts of the request than it depended on: what it does not name, the core
need not ask about again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from pyproxy.dataplane import WORD, Forward, Question, Reply
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

FORWARDS = 256  # that are kept, of all contexts and credentials
STATIC = "static"  # name of the upstream of static files
REMEMBER_S = 3600.0  # unless credentials end before; changes withdraw it anyway
AUTHORIZATION = "authorization"
IMPERSONATE = "impersonate-user"
# All that a verdict may name, beside the words of a filter.
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


def parts_of(given: Filter | None) -> Key:
    """Return all parts that verdicts may name, with this filter."""
    words = given.words if given is not None else None
    return (*PARTS, *(WORD + word for word in words or ()))


class Verdict(NamedTuple):
    """For `Dataplane.answer`."""

    answer: Forward | Reply | None
    key: Key = ()
    ttl_s: float = 0.0


class Place(NamedTuple):
    """The route of a request, and whether its path passes the filter."""

    route: Route
    where: Key  # parts of the path that this hangs on
    passes: bool


class Need(NamedTuple):
    """No verdict without the credential of this context, or without another one."""

    context: str
    rejected: bool = False  # the last one was answered with a 401


def decide(
    question: Question, settings: Settings, credentials: Mapping[str, Credential]
) -> Verdict | Need:
    """Say what becomes of a request, or which credential is missing to say it."""
    place = _place(question, settings)
    match place.route:
        case Asterisk():
            return Verdict(replies.of_asterisk(question.method))
        case Malformed():
            return Verdict(replies.BAD_REQUEST, (":path",), REMEMBER_S)
        case Redirect(path):
            return Verdict(replies.redirect(question, path))
        case Missing():
            return Verdict(replies.NOT_FOUND, (":path",), REMEMBER_S)
        case Api() as route:
            return _api(question, place, route, settings, credentials)
        case Static(strip):
            return _static(question, strip, place, settings)
        case ContextList():
            return _context_list(question, settings)


def _place(question: Question, settings: Settings) -> Place:
    """Find the route of a request, by no more of its path than that takes."""
    router, judge = settings.router, settings.filter
    if router.is_shallow:
        # The first segment says which prefix it is, the second which context.
        seen = question.path_to(1)
        route, where = router.route(seen), ":segment"
        if isinstance(route, ContextList):
            seen = question.path_to(2)
            route, where = router.route(seen), ":path/2"
        if not isinstance(route, Api | ContextList):
            return Place(route, (where,), passes=True)
        if isinstance(route, Api):
            if judge is None:
                return Place(route, (where,), passes=True)
            passes = judge.judge(question.path_has)
            if passes is not None:
                words = (WORD + word for word in judge.words or ())
                return Place(route, (where, *words), passes)
        if seen != question.path:
            route = router.route(question.path)
    else:
        route = router.route(question.path)
    passes = True
    if isinstance(route, Api) and judge is not None:
        passes = judge.accepts_path(route.path)
    return Place(route, (":path",), passes)


def _api(
    question: Question,
    place: Place,
    route: Api,
    settings: Settings,
    credentials: Mapping[str, Credential],
) -> Verdict | Need:
    refusal, key = _refusal(question, place, settings)
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
            own = _says(question, AUTHORIZATION)
        if not own and (known is None or question.refused):
            return Need(route.context, rejected=bool(question.refused))
        # A 401 for a client's own token is no reason to renew ours.
        if known is not None and not (own and known.renewable):
            credential = known
    impersonate: Pairs = ()
    if target.impersonate:
        key += (IMPERSONATE,)
        impersonate = () if _says(question, IMPERSONATE) else target.impersonate
    default: Pairs = (("User-Agent", settings.user_agent),)
    if credential.authorization:
        default += (("Authorization", credential.authorization),)
    forward = _forward(
        target,
        route.strip,
        impersonate,
        default,
        _upgrades(question.upgrade),
        401 if credential.renewable else 0,
    )
    return Verdict(forward, key, min(REMEMBER_S, credential.ttl_s))


def _says(question: Question, name: str) -> bool:
    """Whether a header has a value to programs that read its first line only.

    Source: Go, net/http.Header.Get, as client-go and the apiserver use it. An empty
    first line must not make us leave out what the second one then does not say either.
    """
    return any(question.headers_all(name)[:1])


@lru_cache(FORWARDS)
def _forward(
    target: Target,
    strip: int,
    impersonate: Pairs,
    default: Pairs,
    upgrades: tuple[str, ...] | None,
    ask_on: int,
) -> Forward:
    """Say it once: checking a Forward costs more than all else of a decision."""
    return Forward(
        target.upstream,
        host=target.host,
        strip=strip,
        prefix=target.path,
        set=impersonate,
        default=default,
        forwarded_for=True,
        upgrades=upgrades,
        ask_on=ask_on,
    )


def _refusal(
    question: Question, place: Place, settings: Settings
) -> tuple[Reply | None, Key]:
    """Return why a request may not pass, if so, and what that and the route hang on."""
    key: Key = (*place.where, ":method", ":upgrade")
    if settings.filter is not None:
        key += (":host",)
        if not place.passes or not settings.filter.accepts_all_but_path(
            question.method, question.host
        ):
            return replies.FORBIDDEN, key
    if settings.allow_cross_site or is_safe(question):
        return None, key
    key += ("origin", "sec-fetch-site")
    if ":host" not in key:
        key += (":host",)
    return replies.CROSS_SITE if is_cross_site(question) else None, key


def _upgrades(wanted: str) -> tuple[str, ...] | None:
    words = [word.strip().lower() for word in wanted.split(",")]
    return () if set(words) & set(REFUSED_UPGRADES) else None


def _static(
    question: Question, strip: int, place: Place, settings: Settings
) -> Verdict:
    key = place.where
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
