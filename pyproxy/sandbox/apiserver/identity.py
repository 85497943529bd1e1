"""Who asks: bearer tokens, client certificates, nobody, and in whose name."""

import secrets
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDictProxy

from pyproxy.sandbox.apiserver.refusal import bad_request, unauthorized
from pyproxy.sandbox.apiserver.schema import Object

MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
SERVICE_ACCOUNTS = "system:serviceaccounts"
AUDIENCE = "https://kubernetes.default.svc"


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, as the API server sees one."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def shown(self) -> Object:
        """As reviews show it."""
        made: Object = {"username": self.name}
        if self.uid:
            made["uid"] = self.uid
        made["groups"] = list(self.groups)
        if self.extra:
            made["extra"] = {key: list(self.extra[key]) for key in sorted(self.extra)}
        return made


ANONYMOUS = Identity("system:anonymous", "", (UNAUTHENTICATED,))

# Those of the recordings that the tests replay.
TOKENS = {
    "admin-token": Identity("admin", "u-admin", (MASTERS,)),
    "alice-token": Identity("alice", "u-alice"),
    "bob-token": Identity("bob", "u-bob", ("viewers",)),
}


class Identities:
    """Tokens and what they stand for; certificates speak for themselves."""

    def __init__(self, tokens: Mapping[str, Identity]) -> None:
        self._tokens = dict(tokens)

    def of_token(self, token: str) -> Identity | None:
        """Whose token this is."""
        found = self._tokens.get(token)
        if found is None:
            return None
        return _with_groups(found, (AUTHENTICATED,))

    def issue(self, namespace: str, name: str, uid: str) -> str:
        """Make a token for a ServiceAccount."""
        token = secrets.token_urlsafe(32)
        groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}")
        user = f"system:serviceaccount:{namespace}:{name}"
        self._tokens[token] = Identity(user, uid, groups)
        return token

    def authenticate(
        self, headers: CIMultiDictProxy[str], certificate: Mapping[str, Any] | None
    ) -> Identity:
        """Say who asks.

        Raises:
            Refusal: with a token that nobody has.
        """
        if certificate:
            return _of_certificate(certificate)
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return ANONYMOUS
        found = self.of_token(token.strip())
        if found is None:
            raise unauthorized()
        return found


def impersonated(headers: CIMultiDictProxy[str]) -> Identity | None:
    """In whose name the request is made, if it says so."""
    name = headers.get("Impersonate-User", "")
    uid = headers.get("Impersonate-Uid", "")
    groups = tuple(headers.getall("Impersonate-Group", ()))
    extra: dict[str, list[str]] = {}
    for header, value in headers.items():
        if header.lower().startswith("impersonate-extra-"):
            key = urllib.parse.unquote(header[len("impersonate-extra-") :]).lower()
            extra.setdefault(key, []).append(value)
    if not name:
        if uid or groups or extra:
            listed = ", ".join(f'"{group}"' for group in groups)
            shown = f"[]string{{{listed}}}" if groups else "[]string(nil)"
            what = f'&user.DefaultInfo{{Name:"", UID:"{uid}", Groups:{shown},'
            what += " Extra:map[string][]string(nil)} without impersonating a user name"
            raise bad_request(f"requested {what}")
        return None
    found = Identity(name, uid, groups, extra)
    if name == ANONYMOUS.name:
        return _with_groups(found, (UNAUTHENTICATED,))
    return _with_groups(found, (AUTHENTICATED,))


def _with_groups(found: Identity, more: Sequence[str]) -> Identity:
    groups = (*found.groups, *(group for group in more if group not in found.groups))
    return Identity(found.name, found.uid, groups, found.extra)


def _of_certificate(certificate: Mapping[str, Any]) -> Identity:
    """Common name = user, organizations = groups."""
    names = [pair for part in certificate.get("subject", ()) for pair in part]
    user = next((value for key, value in names if key == "commonName"), "")
    groups = tuple(value for key, value in names if key == "organizationName")
    return _with_groups(Identity(user, "", groups), (AUTHENTICATED,))
