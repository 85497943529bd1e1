"""Names of Services as hosts: a wildcard name leads to each, and no path is changed.

::

    SERVICE.NAMESPACE.svc.SUFFIX
    SERVICE--PORT.NAMESPACE.svc.SUFFIX
    https--SERVICE.NAMESPACE.svc.SUFFIX
    https--SERVICE--PORT.NAMESPACE.svc.SUFFIX

PORT is a number or a name; neither has two hyphens side by side. `http` in front is a
scheme as well: it names Services that are called `https`, or have `--` in their names.
What users are authorized for is the id that a proxy URL has: `https:SERVICE:PORT`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pyproxy.http.proxypath import ProxyPath

SEPARATOR = "--"
_SCHEMES = ("http", "https")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PORT = re.compile(r"(:[0-9]*)?")


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """A host below one of our suffixes."""

    path: ProxyPath | None  # to its Service, with nothing to strip; None = it has none


NOWHERE = VirtualHost(None)


def suffix_of(text: str) -> str:
    """Return a suffix as `parse_host` wants it. Raise ValueError if it is none."""
    name = text.lower().removeprefix("*.").removesuffix(".")
    if not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f"{text!r} is no name of a domain")
    return name


def parse_host(authority: str, suffixes: Iterable[str]) -> VirtualHost | None:
    """Say which Service a request is for, by its host; None = by its path.

    What ends as our hosts do, and is none, is NOWHERE: it is served in no other way.
    """
    host, colon, port = authority.lower().partition(":")
    name = host.rstrip(".")
    for suffix in suffixes:
        end = f".svc.{suffix}"
        if name.endswith(end):
            plain = _PORT.fullmatch(colon + port) and len(host) - len(name) < 2
            return _below(name.removesuffix(end)) if plain else NOWHERE
    return None


def _below(name: str) -> VirtualHost:
    service, _, namespace = name.partition(".")
    found = _id_of(service)
    if not found or not _LABEL.fullmatch(namespace):
        return NOWHERE
    return VirtualHost(ProxyPath("services", namespace, found, "", "/"))


def _id_of(label: str) -> str:
    """Return the id that a label stands for; "" = none."""
    parts = label.split(SEPARATOR)
    scheme = parts.pop(0) if len(parts) > 1 and parts[0] in _SCHEMES else ""
    last = parts.pop() if len(parts) > 1 else None
    name, port = SEPARATOR.join(parts), last or ""
    if not _LABEL.fullmatch(name) or (last is not None and not _LABEL.fullmatch(last)):
        return ""
    if scheme:
        return f"{scheme}:{name}:{port}"
    return f"{name}:{port}" if port else name
