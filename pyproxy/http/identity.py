"""Who sends a request, as far as the request itself tells: `claim_of`.

In the order of an apiserver: headers of a front proxy that shows its certificate; the
certificate of a client; a bearer token; a token among the subprotocols of a WebSocket.
A token says nothing by itself: somebody has to be asked whose it is.

Source: apiserver, pkg/authentication/request (headerrequest, x509, bearertoken,
websocket) and endpoints/filters/impersonation.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol
from urllib.parse import unquote

from pyproxy.dataplane import Certificate, Question

ANONYMOUS = "system:anonymous"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
SERVICE_ACCOUNT = "system:serviceaccount:"
SERVICE_ACCOUNTS = "system:serviceaccounts"
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
AUTHENTICATION = "authentication.k8s.io"
PROTOCOLS = "sec-websocket-protocol"
_BEARER = "base64url.bearer.authorization.k8s.io."

Extra = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class User:
    """A user, as policies know one. Its extra is sorted by key."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Extra = ()

    def with_group(self, name: str) -> "User":
        """Return the same user in a group."""
        if name in self.groups:
            return self
        return User(self.name, self.uid, (*self.groups, name), self.extra)


NOBODY = User(ANONYMOUS, groups=(UNAUTHENTICATED,))


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token: somebody must be asked whose it is."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says about its sender."""

    user: User | None = None  # that needs no question
    token: Token | None = None
    is_bad: bool = False  # it shows something, and that is no good
    by_certificate: bool = False  # its own, or that of a front proxy


@dataclass(frozen=True, slots=True)
class HeaderNames:
    """Where front proxies write whose request it is; in lower case."""

    user: tuple[str, ...] = ("x-remote-user",)
    uid: tuple[str, ...] = ("x-remote-uid",)
    group: tuple[str, ...] = ("x-remote-group",)
    extra: tuple[str, ...] = ("x-remote-extra-",)  # beginnings of names

    def all(self) -> tuple[str, ...]:
        """Return them as names for `Forward.remove`."""
        prefixes = tuple(f"{name}*" for name in self.extra)
        return (*self.user, *self.uid, *self.group, *prefixes)


class Issuers(Protocol):
    """Tells for what a certificate, which the handshake verified, is good."""

    def is_client(self, certificate: Certificate) -> bool:
        """Whether it names a user."""

    def is_front_proxy(self, certificate: Certificate) -> bool:
        """Whether it is that of a front proxy."""


def claim_of(
    question: Question, issuers: Issuers, names: HeaderNames, *, now_s: float
) -> Claim:
    """Read what a request says about its sender; nothing = nobody.

    `now_s` is the time of day: connections may outlive their certificates.
    """
    shown = question.certificate
    if shown is not None:
        if shown.not_after <= now_s:
            return Claim(is_bad=True, by_certificate=True)
        if issuers.is_front_proxy(shown):
            user = _by_headers(question, names)
            if user is not None:
                return Claim(user, by_certificate=True)
        if shown.common_name and issuers.is_client(shown):
            return Claim(_by_certificate(shown), by_certificate=True)
    token = _bearer(question.headers_all("authorization"))
    if token:
        return Claim(token=Token(token))
    if question.upgrade.strip().lower() == "websocket":
        return _by_protocols(question.headers_all(PROTOCOLS))
    return Claim()


def _by_headers(question: Question, names: HeaderNames) -> User | None:
    def values(of: tuple[str, ...]) -> Iterator[str]:
        for name in of:
            yield from filter(None, question.headers_all(name))

    user = next(values(names.user), "")
    if not user:
        return None
    extra = _extra(question, names.extra)
    return User(user, next(values(names.uid), ""), tuple(values(names.group)), extra)


def _extra(question: Question, prefixes: tuple[str, ...]) -> Extra:
    found: dict[str, list[str]] = {}
    for name, value in question.headers:
        for prefix in prefixes:
            if name.lower().startswith(prefix):
                key = unquote(name.lower()[len(prefix) :])
                found.setdefault(key, []).append(value)
    return tuple(sorted((key, tuple(values)) for key, values in found.items()))


def _by_certificate(shown: Certificate) -> User:
    proof = f"X509SHA256={sha256(shown.der).hexdigest()}"
    extra = ((CREDENTIAL_ID, (proof,)),)
    return User(shown.common_name, "", shown.organizations, extra)


def _bearer(lines: tuple[str, ...]) -> str:
    """Return the token of the first line, as Go's Header.Get reads it."""
    words = lines[0].strip().split(" ", 2) if lines else []
    if len(words) < 2 or words[0].lower() != "bearer":
        return ""
    return words[1]


def _by_protocols(lines: tuple[str, ...]) -> Claim:
    words = _words(lines)
    tokens = [word for word in words if word.startswith(_BEARER)]
    if not tokens:
        return Claim()
    if len(tokens) > 1 or len(words) < 2:
        return Claim(is_bad=True)
    encoded = tokens[0].removeprefix(_BEARER)
    padding = "=" * (-len(encoded) % 4)
    try:
        raw = base64.b64decode(encoded + padding, b"-_", validate=True)
        text = raw.decode("utf-8")
    except (binascii.Error, UnicodeError, ValueError):
        return Claim(is_bad=True)
    if not text or "=" in encoded:
        return Claim(is_bad=True)
    return Claim(token=Token(text))


def protocols_left(question: Question) -> str | None:
    """Return the subprotocols without tokens; None = there are none to take out.

    Also where the sender is known by something else: a token is not for backends.
    """
    if question.upgrade.strip().lower() != "websocket":
        return None
    words = _words(question.headers_all(PROTOCOLS))
    others = [word for word in words if not word.startswith(_BEARER)]
    return ", ".join(others) if len(others) < len(words) else None


def _words(lines: tuple[str, ...]) -> list[str]:
    words = (word.strip() for line in lines for word in line.split(","))
    return [word for word in words if word]


# Impersonation

IMPERSONATE_USER = "impersonate-user"
IMPERSONATE_UID = "impersonate-uid"
IMPERSONATE_GROUP = "impersonate-group"
IMPERSONATE_EXTRA = "impersonate-extra-"
IMPERSONATION = ("impersonate-*",)  # for `Forward.remove`


@dataclass(frozen=True, slots=True)
class Right:
    """An object that one must be allowed to impersonate."""

    resource: str
    name: str
    namespace: str = ""
    group: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Impersonated:
    """Whose request it shall be, and the rights which that takes."""

    user: User
    rights: tuple[Right, ...]


def impersonated(question: Question) -> Impersonated | None:
    """Return in whose name a request is made, if it says so.

    Raises:
        ValueError: groups, a uid or extra are given without a user.
    """
    name = next(iter(question.headers_all(IMPERSONATE_USER)), "")
    uid = next(iter(question.headers_all(IMPERSONATE_UID)), "")
    groups = question.headers_all(IMPERSONATE_GROUP)
    if not name:
        if uid or groups:
            raise ValueError("impersonation without impersonating a user name")
        return None
    extra = _extra(question, (IMPERSONATE_EXTRA,))
    rights = (_right_of(name), *(Right("groups", group) for group in groups))
    if uid:
        rights += (Right("uids", uid, group=AUTHENTICATION),)
    for key, values in extra:
        rights += tuple(
            Right("userextras", value, group=AUTHENTICATION, subresource=key)
            for value in values
        )
    if not groups:
        groups = _groups_of(name)
    user = User(name, uid, groups, extra)
    own = UNAUTHENTICATED if name == ANONYMOUS else AUTHENTICATED
    return Impersonated(user.with_group(own), rights)


def _account(name: str) -> tuple[str, str]:
    """Return namespace and name of a service account; empty = it is none."""
    if not name.startswith(SERVICE_ACCOUNT):
        return "", ""
    namespace, colon, account = name.removeprefix(SERVICE_ACCOUNT).partition(":")
    is_one = bool(colon and namespace and account) and ":" not in account
    return (namespace, account) if is_one else ("", "")


def _right_of(name: str) -> Right:
    namespace, account = _account(name)
    if account:
        return Right("serviceaccounts", account, namespace)
    return Right("users", name)


def _groups_of(name: str) -> tuple[str, ...]:
    namespace, account = _account(name)
    if not account:
        return ()
    return (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}")
