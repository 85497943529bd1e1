"""From a question to a verdict: `decide`, a pure function.

Who sends it, in whose name, may they, where does it go, with which headers: in this
order, so that a user without rights learns nothing about what exists. What takes an
answer from an apiserver is a `Need`; the judge gets it and decides again.

The key of a verdict is what was read of the question, no more and no less.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from pyproxy.dataplane import Forward, Question, Quota, Reply
from pyproxy.discovery.targets import Location, Lookup, Refused, Resolver
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
from pyproxy.http.proxypath import WORD, ProxyPath, cleaned, parse
from pyproxy.http.status import form_of, status
from pyproxy.modes.apiserver_proxy import forwards
from pyproxy.modes.apiserver_proxy.config import ClientLimits
from pyproxy.modes.apiserver_proxy.forwards import Apiserver, Edits
from pyproxy.modes.apiserver_proxy.keys import key_of

MASTERS = "system:masters"  # whoever is in it may do everything
REMEMBER_S = 3600.0  # what hangs on no answer; changes withdraw it anyway
VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
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


class _RefusalError(Exception):
    """The request ends here."""

    def __init__(
        self,
        refused: Refused,
        details: Mapping[str, object] | None = None,
        *,
        holds: bool = False,
        nosniff: bool = False,
    ) -> None:
        super().__init__(refused.message)
        self.refused = refused
        self.details = details
        self.holds = holds  # as long as the answers that it comes of
        self.nosniff = nosniff


def decide(question: Question, settings: Settings, answers: Answers) -> Verdict | Need:
    """Say what becomes of a request, or what must be known to say it."""
    case = _Case(question, settings, answers)
    try:
        return case.verdict()
    except Missing as missing:
        return missing.need
    except _RefusalError as error:
        refused = error.refused
        reply = status(
            *(refused.code, refused.reason, refused.message, error.details),
            form=form_of(question.header("accept") or ""),
            nosniff=error.nosniff,
        )
        key = key_of(question) if error.holds else None
        if key is None:
            return Verdict(reply)
        return Verdict(reply, key, answers.ttl_s)


UNAUTHORIZED = Refused(401, "Unauthorized", "Unauthorized")
NO_SUCH_PATH = Refused(
    404, "NotFound", "the server could not find the requested resource"
)
NO_SUCH_METHOD = Refused(
    405,
    "MethodNotAllowed",
    "the server does not allow this method on the requested resource",
)


@dataclass(slots=True)
class _Case:
    """One question, while it is decided."""

    question: Question
    settings: Settings
    answers: Answers

    def verdict(self) -> Verdict:
        path = self._path()
        if path is None:
            return self._rest()
        claim = self._claim()
        user = self._user(claim)
        self._authorize(user, path)
        if self.question.method not in METHODS:
            raise _RefusalError(NO_SUCH_METHOD, {})
        location = self._location(path)
        if not path.rest and self.question.method in ("GET", "HEAD"):
            return Verdict(forwards.redirect(self.question))
        if not path.rest or self.settings.clean_paths or self.settings.forwarded_uri:
            whole = parse(self.question.path)
            assert whole is not None
            path = whole
        return self._forward(user, path, location)

    # What is asked for

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
        user = self._sender(claim)
        try:
            other = impersonated(self.question)
        except ValueError as error:
            raise _RefusalError(Refused(400, "BadRequest", str(error))) from error
        if other is None:
            return user
        for right in other.rights:
            self._allow(
                Access(
                    *(user, "impersonate", right.resource, right.name),
                    *(right.namespace, right.group, right.subresource),
                )
            )
        return other.user

    def _sender(self, claim: Claim) -> User:
        if claim.is_bad:
            raise _RefusalError(UNAUTHORIZED)
        user = claim.user
        if claim.token is not None:
            user = self.answers.user(claim.token)
            if user is None:
                raise _RefusalError(UNAUTHORIZED, holds=True)
        if user is not None:
            return user.with_group(AUTHENTICATED)
        if not self.settings.anonymous:
            raise _RefusalError(UNAUTHORIZED)
        return NOBODY

    # May they

    def _authorize(self, user: User, path: ProxyPath) -> None:
        verb = VERBS.get(self.question.method, "")
        if path.kind == "nodes" and verb == "get" and self._runs_commands():
            verb = "create"
        self._allow(
            Access(
                *(user, verb, path.kind, path.id, path.namespace),
                subresource="proxy",
            )
        )

    def _runs_commands(self) -> bool:
        """Whether it is an upgrade to what runs commands on a node."""
        if not self.question.upgrade:
            return False
        path = parse(self.question.path)
        first = cleaned(path.rest).split("/")[1] if path is not None else ""
        return first.lower() in COMMANDS

    def _allow(self, access: Access) -> None:
        if not self.settings.authorize or MASTERS in access.user.groups:
            return
        decision = self.answers.access(access)
        if not decision.is_allowed:
            refused = Refused(403, "Forbidden", forbidden(access, decision.reason))
            details = {"name": access.name, "kind": access.resource}
            if access.group:
                details = {"name": access.name, "group": access.group} | details
            raise _RefusalError(refused, details, holds=True, nosniff=True)

    # Where to

    def _location(self, path: ProxyPath) -> Location:
        resolver = self.settings.resolver
        if unsynced := resolver.stores.unsynced():
            said = f"not everything is known yet: {', '.join(unsynced)}"
            raise _RefusalError(Refused(503, "ServiceUnavailable", said))
        found = resolver.resolve(path, self.answers.names)
        if isinstance(found, Lookup):
            raise Missing(found)
        if isinstance(found, Refused):
            details = {"name": found.name, "kind": path.kind} if found.name else None
            raise _RefusalError(found, details)
        return found

    def _forward(self, user: User, path: ProxyPath, location: Location) -> Verdict:
        uri = ""
        if self.settings.clean_paths:
            uri = path.prefix + cleaned(path.rest)
        elif self.settings.forwarded_uri:
            uri = path.prefix + (path.rest or "/")
        forward = forwards.forward(
            *(path, location, self.settings.edits, self.question.host),
            protocols=protocols_left(self.question),
            uri=uri if self.settings.forwarded_uri else "",
            cleaned_uri=uri if self.settings.clean_paths else "",
        )
        limited = self._limited(forward, user)
        return self._kept(
            Verdict(limited, tag=tag_of(path), location=location, path=path)
        )

    def _rest(self) -> Verdict:
        """Send what is no proxy URL to the apiserver, as it came."""
        apiserver = self.settings.apiserver
        if apiserver is None:
            raise _RefusalError(NO_SUCH_PATH, {})
        # A token is read by the apiserver alone: whoever has one, the verdict is this;
        # unless users have limits, for which one must know whose it is.
        shown = self.question.certificate is not None
        claim = self._claim() if shown or self.settings.limits.of_users else Claim()
        if not claim.by_certificate:
            forward = forwards.as_it_came(self.question, apiserver)
            user = self.answers.user(claim.token) if claim.token is not None else None
            return self._kept(Verdict(self._limited(forward, user or NOBODY)))
        if not apiserver.front:
            raise _RefusalError(Refused(403, "Forbidden", forwards.NO_FRONT_PROXY))
        user = self._sender(claim)
        names = self.settings.names
        sent = forwards.in_the_name_of(self.question, apiserver, user, names)
        return self._kept(Verdict(self._limited(sent, user)))

    def _limited(self, forward: Forward, user: User) -> Forward:
        """Let the request count as one of the user's, if users have limits."""
        limits = self.settings.limits
        if not limits.of_users:
            return forward
        quota = Quota(
            user.name,
            limits.max_requests_per_user,
            limits.max_bytes_per_second_per_user,
        )
        return replace(forward, quota=quota)

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


def tag_of(path: ProxyPath) -> str:
    """Return what verdicts about an object are withdrawn by."""
    name = path.id.split(":")
    bare = name[1] if len(name) == 3 else name[0]
    return f"{path.kind} {path.namespace}/{bare}"


_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def forbidden(access: Access, reason: str) -> str:
    """Say what a user may not do. Source: apiserver, responsewriters.Forbidden."""
    resource = access.resource
    if access.subresource:
        resource += f"/{access.subresource}"
    what = f'cannot {access.verb} resource "{resource}" in API group "{access.group}"'
    where = "at the cluster scope"
    if access.namespace:
        where = f'in the namespace "{access.namespace}"'
    said = f'User "{access.user.name}" {what} {where}'.translate(_HTML)
    kind = access.resource + (f".{access.group}" if access.group else "")
    because = f": {reason}" if reason else ""
    return f'{kind} "{access.name}" is forbidden: {said}{because}'
