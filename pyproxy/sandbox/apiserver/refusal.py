"""What the API server says when it does not do what it was asked: Status objects.

The texts are those of kube-apiserver 1.36; clients show them to people and some match
on them, so they are kept to the letter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyproxy.sandbox.apiserver.schema import Object

MEDIA_TYPES = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
STALE = "the object has been modified; please apply your changes to the latest version"


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with an object."""

    field: str
    message: str  # without the field
    reason: str = "FieldValueInvalid"

    @classmethod
    def invalid(cls, field: str, value: object, why: str) -> "Cause":
        """A value that does not do; a text is shown in quotes."""
        shown = f'"{value}"' if isinstance(value, str) else value
        return cls(field, f"Invalid value: {shown}: {why}")

    @classmethod
    def required(cls, field: str, why: str = "") -> "Cause":
        """A value that is missing."""
        message = f"Required value: {why}" if why else "Required value"
        return cls(field, message, "FieldValueRequired")

    @classmethod
    def forbidden(cls, field: str, why: str) -> "Cause":
        """A value that must not be there."""
        return cls(field, f"Forbidden: {why}", "FieldValueForbidden")

    @classmethod
    def unsupported(cls, field: str, value: str, known: Iterable[str]) -> "Cause":
        """A word that is none of those known."""
        words = ", ".join(f'"{word}"' for word in known)
        message = f'Unsupported value: "{value}": supported values: {words}'
        return cls(field, message, "FieldValueNotSupported")


class Refusal(Exception):
    """A Status to answer with."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Object | None = None,
        continue_token: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.continue_token = continue_token

    def status(self) -> Object:
        """Return the Status object."""
        metadata = {"continue": self.continue_token} if self.continue_token else {}
        made: Object = {"kind": "Status", "apiVersion": "v1", "metadata": metadata}
        made |= {"status": "Failure", "message": self.message}
        if self.reason:
            made["reason"] = self.reason
        if self.details is not None:
            made["details"] = self.details
        return made | {"code": self.code}


def _about(name: str, group: str, kind: str) -> Object:
    parts = {"name": name, "group": group, "kind": kind}
    return {key: value for key, value in parts.items() if value}


def qualified(name: str, group: str) -> str:
    """`services`, but `leases.coordination.k8s.io`."""
    return f"{name}.{group}" if group else name


def bad_request(message: str) -> Refusal:
    """400, with any text."""
    return Refusal(400, "BadRequest", message)


def unauthorized() -> Refusal:
    """401: these credentials are nobody's."""
    return Refusal(401, "Unauthorized", "Unauthorized")


def forbidden(plural: str, group: str, name: str, why: str) -> Refusal:
    """403, for somebody who is known."""
    what = qualified(plural, group) + (f' "{name}"' if name else "")
    message = f"{what} is forbidden: {why}"
    return Refusal(403, "Forbidden", message, _about(name, group, plural))


def not_found(plural: str, group: str, name: str) -> Refusal:
    """404: no such object."""
    message = f'{qualified(plural, group)} "{name}" not found'
    return Refusal(404, "NotFound", message, _about(name, group, plural))


def no_such_resource() -> Refusal:
    """404: the path is right, but nothing is served there."""
    message = "the server could not find the requested resource"
    return Refusal(404, "NotFound", message, {})


def method_not_allowed() -> Refusal:
    """405."""
    message = "the server does not allow this method on the requested resource"
    return Refusal(405, "MethodNotAllowed", message, {})


def not_acceptable() -> Refusal:
    """406."""
    message = f"406: Not Acceptable\n\nAvailable representations: {MEDIA_TYPES}"
    return Refusal(406, "NotAcceptable", message, {})


def already_exists(plural: str, group: str, name: str) -> Refusal:
    """409: the name is taken."""
    message = f'{qualified(plural, group)} "{name}" already exists'
    return Refusal(409, "AlreadyExists", message, _about(name, group, plural))


def conflict(plural: str, group: str, name: str, why: str) -> Refusal:
    """409: another request was faster."""
    what = f'{qualified(plural, group)} "{name}"'
    message = f"Operation cannot be fulfilled on {what}: {why}"
    return Refusal(409, "Conflict", message, _about(name, group, plural))


def stale(plural: str, group: str, name: str) -> Refusal:
    """409: the version that was changed is not the latest."""
    return conflict(plural, group, name, f"{STALE} and try again")


def expired(message: str, continue_token: str = "") -> Refusal:
    """410: that revision is forgotten."""
    return Refusal(410, "Expired", message, None, continue_token)


def unknown_media(known: str = MEDIA_TYPES) -> Refusal:
    """415."""
    message = "the body of the request was in an unknown format"
    message += f" - accepted media types include: {known}"
    return Refusal(415, "UnsupportedMediaType", message)


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> Refusal:
    """422: the object breaks rules."""
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    shown = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = _about(name, group, kind)
    details["causes"] = [
        {"reason": cause.reason, "message": cause.message, "field": cause.field}
        for cause in causes
    ]
    message = f'{qualified(kind, group)} "{name}" is invalid: {shown}'
    return Refusal(422, "Invalid", message, details)


def too_large(asked: int, latest: int) -> Refusal:
    """504: a revision that has not happened yet."""
    what = "Too large resource version"
    causes = [{"reason": "ResourceVersionTooLarge", "message": what}]
    details = {"causes": causes, "retryAfterSeconds": 1}
    message = f"Timeout: {what}: {asked}, current: {latest}"
    return Refusal(504, "Timeout", message, details)
