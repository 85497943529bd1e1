"""Proxy URLs of an apiserver, taken apart: which object, which port, which path.

::

    /api/v1/namespaces/NAMESPACE/pods/ID/proxy[/PATH]
    /api/v1/namespaces/NAMESPACE/services/ID/proxy[/PATH]
    /api/v1/nodes/ID/proxy[/PATH]

Segments are decoded one by one, after the path was split. A path with an escaped slash
before `proxy` is none of these: an apiserver may read it in another way than we do, so
it is left to the apiserver.

Source: apimachinery, pkg/util/net.SplitSchemeNamePort; apiserver, RequestInfo.
"""

import posixpath
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote_to_bytes

Kind = Literal["pods", "services", "nodes"]

KINDS: dict[str, Kind] = {"pods": "pods", "services": "services"}
WORD = "/proxy"  # in the path of every proxy URL that is written without escapes
NAMESPACED, CLUSTERED = 7, 5  # segments up to and with `proxy`
SCHEMES = ("", "http", "https")
# What users need to be allowed; "" = any other method.
VERBS = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_KEPT = "/$&+,:;=@-_.~"  # what Go leaves unescaped in a path


@dataclass(frozen=True, slots=True)
class ProxyId:
    """What an id names: `name`, `name:port` or `scheme:name:port`."""

    name: str
    port: str = ""  # a number, a name, or nothing
    scheme: str = ""  # "", "http" or "https"


@dataclass(frozen=True, slots=True)
class ProxyPath:
    """The path of a request to something behind an apiserver."""

    kind: Kind
    namespace: str  # "" = of a node
    id: str  # decoded and whole: the name that users are authorized for
    prefix: str  # of the path, as it came, up to and with `proxy`
    rest: str  # as it came; "" = not even a slash

    @property
    def strip(self) -> int:
        """Bytes of the path that its target does not see."""
        return len(self.prefix)

    @property
    def object(self) -> str:
        """`Pod`'s word for itself in messages about the id."""
        return self.kind.removesuffix("s")


def parse(path: str) -> ProxyPath | None:
    """Take the path of a request apart, as it came; None if it is no proxy URL."""
    parts = path.split("/")
    if len(parts) <= CLUSTERED or parts[0]:
        return None
    words = [decoded(part) for part in parts[1 : NAMESPACED + 1]]
    if words[:2] != ["api", "v1"]:
        return None
    kind: Kind | None
    if words[2] == "nodes":
        kind, namespace, count = "nodes", "", CLUSTERED
    elif words[2] == "namespaces" and len(words) == NAMESPACED:
        kind, namespace, count = KINDS.get(words[4]), words[3], NAMESPACED
    else:
        return None
    words = words[:count]
    odd = any(word in ("", ".", "..") or "/" in word for word in words)
    if kind is None or odd or words[-1] != "proxy":
        return None
    prefix = "/".join(parts[: count + 1])
    return ProxyPath(kind, namespace, words[-2], prefix, path[len(prefix) :])


def split_id(text: str) -> ProxyId | None:
    """Take an id apart; None if it is not valid. `https:foo` is port foo of https."""
    parts = text.split(":")
    scheme, name, port = "", parts[0], ""
    if len(parts) == 2:
        name, port = parts
    elif len(parts) == 3:
        scheme, name, port = parts
    valid = len(parts) <= 3 and scheme in SCHEMES and name != ""
    return ProxyId(name, port, scheme) if valid else None


def decoded(text: str) -> str:
    """Return what escapes stand for; `text` is Latin-1 as the core gives it."""
    raw = unquote_to_bytes(text.encode("latin-1", "replace"))
    return raw.decode("utf-8", "replace")


def cleaned(rest: str) -> str:
    """Return a path as kube-apiserver passes it on: decoded, cleaned, escaped anew."""
    raw = unquote_to_bytes(rest.encode("latin-1", "replace"))
    path = posixpath.normpath(b"/" + raw.lstrip(b"/"))
    if raw.endswith((b"/", b"/.", b"/..")) and path != b"/":
        path += b"/"
    return quote(path, safe=_KEPT)
