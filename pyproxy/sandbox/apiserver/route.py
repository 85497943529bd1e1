"""What a request is about, from its method, path and query alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyproxy.sandbox.apiserver.kinds import Resource, resources
from pyproxy.sandbox.apiserver.store import Key

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_TRUE = ("1", "true", "True", "t", "T")


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for, in the words of an authorizer."""

    verb: str
    path: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def resource(self) -> Resource | None:
        """What is served there, if anything."""
        is_served = self.is_resource and self.version == "v1"
        return resources(self.group).get(self.plural) if is_served else None

    @property
    def key(self) -> Key:
        """Where the store has the object."""
        resource = self.resource
        is_namespaced = resource is not None and resource.is_namespaced
        return (self.namespace if is_namespaced else "", self.name)

    @property
    def full_resource(self) -> str:
        """`pods`, or `pods/log`."""
        sub = f"/{self.subresource}" if self.subresource else ""
        return f"{self.plural}{sub}"


def is_true(query: Mapping[str, str], name: str) -> bool:
    """Whether a flag is set, in one of Go's spellings."""
    return query.get(name, "") in _TRUE


def parse(method: str, path: str, query: Mapping[str, str]) -> Target:
    """Return what a request is about."""
    plain = Target(method.lower(), path)
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, rest = "", parts[1:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, rest = parts[1], parts[2:]
    else:
        return plain
    version, rest = rest[0], rest[1:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        # `namespaces/x` is the Namespace x, and also in it, as authorizers see it.
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in ("status", "finalize"):
            rest = rest[2:]
    plural, name, subresource = [*rest, "", ""][:3]
    verb = _verb(method, name, query)
    return Target(
        verb, path, True, group, version, plural, namespace, name, subresource
    )


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    if method in ("GET", "HEAD"):
        if name:
            return "get"
        return "watch" if is_true(query, "watch") else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    return _VERBS.get(method, "")
