"""From a question to a verdict: `decide`, a pure function.

Who sends it, in whose name, may they, where does it go, with which headers: in this
order, so that a user without rights learns nothing about what exists. What takes an
answer from an apiserver is a `Need`; the judge gets it and decides again.

The key of a verdict is what was read of the question, no more and no less.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pyproxy.dataplane import Forward, Question, Reply
from pyproxy.discovery.targets import Location, Lookup, Refused, Resolver
from pyproxy.http.audit import Refusal, Target, Trail
from pyproxy.http.filter import is_cross_site
from pyproxy.http.identity import (
    AUTHENTICATED,
    NOBODY,
    Claim,
    HeaderNames,
    Issuers,
    Token,
    User,
    claim_of,
    impersonated,
    protocols_left,
)
from pyproxy.http.proxypath import VERBS, WORD, ProxyPath, cleaned, parse
from pyproxy.http.status import Form, form_of, is_shown, status
from pyproxy.http.virtualhost import VirtualHost, parse_host
from pyproxy.modes.apiserver_proxy import forwards
from pyproxy.modes.apiserver_proxy.config import ClientLimits
from pyproxy.modes.apiserver_proxy.forwards import Apiserver, Edits
from pyproxy.modes.apiserver_proxy.keys import key_of
from pyproxy.modes.apiserver_proxy.refusals import (
    ACROSS_SITES,
    NO_SUCH_METHOD,
    NO_SUCH_PATH,
    UNAUTHORIZED,
    RefusalError,
    forbidden,
)

MASTERS = "system:masters"  # whoever is in it may do everything
REMEMBER_S = 3600.0  # what hangs on no answer; changes withdraw it anyway
USUAL, USUAL_NAMES, UNLIMITED = Edits(), HeaderNames(), ClientLimits()
METHODS = (*VERBS, "OPTIONS")
# Of a kubelet: what runs commands, though a WebSocket begins with a GET.
COMMANDS = frozenset({"exec", "run", "attach", "portforward", "cri"})


@dataclass(frozen=True, slots=True)
class Access:
    """What a user wants to do."""

    user: User
    verb: str
    resource: str
    name: str
    namespace: str = ""
    group: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether they may."""

    is_allowed: bool
    reason: str = ""


Need = Token | Access | Lookup


class Answers(Protocol):
    """What is known of what was asked. Notes for how long the used answers hold."""

    def user(self, token: Token) -> User | None:
        """Return whose token it is; None = nobody's. Raise Missing."""

    def access(self, access: Access) -> Decision:
        """Return whether a user may do it. Raise Missing."""

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """Addresses of names."""

    @property
    def ttl_s(self) -> float:
        """For how long all that was used is good."""


class Missing(Exception):
    """There is no answer yet."""

    def __init__(self, need: Need) -> None:
        super().__init__(type(need).__name__)
        self.need = need


@dataclass(frozen=True, slots=True)
class Settings:
    """What one listener does."""

    resolver: Resolver
    issuers: Issuers
    apiserver: Apiserver | None  # for all other paths; None = they are not served
    edits: Edits = USUAL
    names: HeaderNames = USUAL_NAMES
    anonymous: bool = True
    authorize: bool = True  # False: whoever is known may do everything
    clean_paths: bool = False
    forwarded_uri: bool = True
    suffixes: tuple[str, ...] = ()  # of virtual hosts
    passed_header: str = ""  # whose value is the backend's Authorization; "" = none
    limits: ClientLimits = UNLIMITED
    now_s: Callable[[], float] = time.time


class Verdict(NamedTuple):
    """For `Dataplane.answer`."""

    answer: Forward | Reply
    key: tuple[str, ...] = ()
    ttl_s: float = 0.0
    tag: str = ""
    location: Location | None = None  # that the answer's upstream must lead to
    path: ProxyPath | None = None  # whose location it is
    refusal: Refusal | None = None  # what the answer says, if it is a Status


def decide(
    question: Question,
    settings: Settings,
    answers: Answers,
    trail: Trail | None = None,
) -> Verdict | Need:
    """Say what becomes of a request, or what must be known to say it.

    On what grounds is written down in `trail`, a new one.
    """
    case = _Case(question, settings, answers, trail or Trail())
    try:
        return case.verdict()
    except Missing as missing:
        return missing.need
    except RefusalError as error:
        refused = error.refused
        details = tuple((error.details or {}).items())
        said = Refusal(refused.reason, refused.message, details)
        reply = status(
            *(refused.code, refused.reason, refused.message, error.details),
            form=_form(question),
            nosniff=error.nosniff,
        )
        key = key_of(question) if error.holds else None
        if key is None:
            return Verdict(reply, refusal=said)
        return Verdict(reply, key, answers.ttl_s, refusal=said)


@dataclass(slots=True)
class _Case:
    """One question, while it is decided."""

    question: Question
    settings: Settings
    answers: Answers
    trail: Trail

    def verdict(self) -> Verdict:
        hosted = self._host()
        path = hosted.path if hosted is not None else self._path()
        if path is None and hosted is None:
            return self._rest()
        self.trail.target = Target.of(path) if path is not None else None
        claim = self._claim()
        user = self._user(claim)
        if path is None:
            raise RefusalError(NO_SUCH_PATH, {})
        self._authorize(user, path)
        if self.question.method not in METHODS:
            raise RefusalError(NO_SUCH_METHOD, {})
        if hosted is not None and claim.by_certificate and is_cross_site(self.question):
            raise RefusalError(ACROSS_SITES, nosniff=True)
        location = self._location(path)
        if hosted is not None:
            return self._send(user, path, location)
        if not path.rest and self.question.method in ("GET", "HEAD"):
            return Verdict(forwards.redirect(self.question))
        if not path.rest or self.settings.clean_paths or self.settings.forwarded_uri:
            whole = parse(self.question.path)
            assert whole is not None
            path = whole
        return self._forward(user, path, location)

    # What is asked for

    def _host(self) -> VirtualHost | None:
        """Return the Service that the host names; None = the path says what it is."""
        suffixes = self.settings.suffixes
        return parse_host(self.question.host, suffixes) if suffixes else None

    def _path(self) -> ProxyPath | None:
        """Return what a proxy URL says, by no more of its path than that takes."""
        question = self.question
        if question.path_has(WORD) is False:
            return None
        seen = question.path_to(3)
        if seen == "/api/v1/nodes/":
            seen = question.path_to(5)
        elif seen == "/api/v1/namespaces/":
            seen = question.path_to(7)
        return parse(seen)

    # Who asks

    def _claim(self) -> Claim:
        settings = self.settings
        now_s = settings.now_s()
        return claim_of(self.question, settings.issuers, settings.names, now_s=now_s)

    def _user(self, claim: Claim) -> User:
        user = self.trail.user = self._sender(claim)
        try:
            other = impersonated(self.question)
        except ValueError as error:
            raise RefusalError(Refused(400, "BadRequest", str(error))) from error
        if other is None:
            return user
        for right in other.rights:
            self._allow(
                Access(
                    *(user, "impersonate", right.resource, right.name),
                    *(right.namespace, right.group, right.subresource),
                )
            )
        self.trail.other = other.user
        return other.user

    def _sender(self, claim: Claim) -> User:
        if claim.is_bad:
            raise RefusalError(UNAUTHORIZED)
        user = claim.user
        if claim.token is not None:
            user = self.answers.user(claim.token)
            if user is None:
                raise RefusalError(UNAUTHORIZED, holds=True)
        if user is not None:
            return user.with_group(AUTHENTICATED)
        if not self.settings.anonymous:
            raise RefusalError(UNAUTHORIZED)
        return NOBODY

    # May they

    def _authorize(self, user: User, path: ProxyPath) -> None:
        verb = VERBS.get(self.question.method, "")
        if path.kind == "nodes" and verb == "get" and self._runs_commands():
            verb = "create"
        self.trail.verb = verb
        access = Access(
            *(user, verb, path.kind, path.id, path.namespace), subresource="proxy"
        )
        self._allow(access, self.trail)

    def _runs_commands(self) -> bool:
        """Whether it is an upgrade to what runs commands on a node."""
        if not self.question.upgrade:
            return False
        path = parse(self.question.path)
        first = cleaned(path.rest).split("/")[1] if path is not None else ""
        return first.lower() in COMMANDS

    def _allow(self, access: Access, trail: Trail | None = None) -> None:
        """Go on if it is allowed; the decision about the request goes into `trail`."""
        decision = Decision(True)
        if self.settings.authorize and MASTERS not in access.user.groups:
            decision = self.answers.access(access)
        if trail is not None:
            trail.decision = "allow" if decision.is_allowed else "forbid"
            trail.reason = decision.reason
        if not decision.is_allowed:
            refused = Refused(403, "Forbidden", forbidden(access, decision.reason))
            details = {"name": access.name, "kind": access.resource}
            if access.group:
                details = {"name": access.name, "group": access.group} | details
            raise RefusalError(refused, details, holds=True, nosniff=True)

    # Where to

    def _location(self, path: ProxyPath) -> Location:
        resolver = self.settings.resolver
        if unsynced := resolver.stores.unsynced():
            said = f"not everything is known yet: {', '.join(unsynced)}"
            raise RefusalError(Refused(503, "ServiceUnavailable", said))
        found = resolver.resolve(path, self.answers.names)
        if isinstance(found, Lookup):
            raise Missing(found)
        if isinstance(found, Refused):
            details = {"name": found.name, "kind": path.kind} if found.name else None
            raise RefusalError(found, details)
        return found

    def _forward(self, user: User, path: ProxyPath, location: Location) -> Verdict:
        uri = ""
        if self.settings.clean_paths:
            uri = path.prefix + cleaned(path.rest)
        elif self.settings.forwarded_uri:
            uri = path.prefix + (path.rest or "/")
        return self._send(
            *(user, path, location),
            uri=uri if self.settings.forwarded_uri else "",
            cleaned_uri=uri if self.settings.clean_paths else "",
        )

    def _send(
        self,
        user: User,
        path: ProxyPath,
        location: Location,
        *,
        uri: str = "",
        cleaned_uri: str = "",
    ) -> Verdict:
        forward = forwards.forward(
            *(path, location, self.settings.edits, self.question.host),
            protocols=protocols_left(self.question),
            authorization=self._own_authorization(),
            uri=uri,
            cleaned_uri=cleaned_uri,
        )
        sent = forwards.limited(forward, self.settings.limits, user)
        return self._kept(Verdict(sent, tag=tag_of(path), location=location, path=path))

    def _own_authorization(self) -> str:
        """Return what the client wants to show to the backend; "" = nothing."""
        name = self.settings.passed_header
        lines = self.question.headers_all(name) if name else ()
        if len(lines) > 1:
            said = f"{name} is there more than once"
            raise RefusalError(Refused(400, "BadRequest", said))
        return lines[0] if lines else ""

    def _rest(self) -> Verdict:
        """Send what is no proxy URL to the apiserver, as it came."""
        apiserver = self.settings.apiserver
        if apiserver is None:
            raise RefusalError(NO_SUCH_PATH, {})
        # A token is read by the apiserver alone: whoever has one, the verdict is this;
        # unless users have limits, for which one must know whose it is.
        shown = self.question.certificate is not None
        claim = self._claim() if shown or self.settings.limits.of_users else Claim()
        if not claim.by_certificate:
            self.trail.passed_on = True
            forward = forwards.as_it_came(self.question, apiserver)
            user = self.answers.user(claim.token) if claim.token is not None else None
            sent = forwards.limited(forward, self.settings.limits, user or NOBODY)
            return self._kept(Verdict(sent))
        if not apiserver.front:
            raise RefusalError(Refused(403, "Forbidden", forwards.NO_FRONT_PROXY))
        user = self._sender(claim)
        names = self.settings.names
        self.trail.passed_on = True
        sent = forwards.in_the_name_of(self.question, apiserver, user, names)
        return self._kept(Verdict(forwards.limited(sent, self.settings.limits, user)))

    def _kept(self, verdict: Verdict) -> Verdict:
        """Let it be remembered for what was read, as long as that is good."""
        shown = self.question.certificate
        ttl_s = min(REMEMBER_S, self.answers.ttl_s)
        if shown is not None:
            ttl_s = min(ttl_s, shown.not_after - self.settings.now_s())
        key = key_of(self.question)
        if key is None or ttl_s <= 0:
            return verdict._replace(ttl_s=0.0, key=())
        return verdict._replace(ttl_s=ttl_s, key=key)


def _form(question: Question) -> Form:
    form = form_of(question.header("accept") or "")
    shown = form == "json" and is_shown(question.header("user-agent") or "")
    return "indented" if shown else form


def tag_of(path: ProxyPath) -> str:
    """Return what verdicts about an object are withdrawn by."""
    name = path.id.split(":")
    bare = name[1] if len(name) == 3 else name[0]
    return f"{path.kind} {path.namespace}/{bare}"
