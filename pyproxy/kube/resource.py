"""Where each kind of object is in the API, and the struct that it is read into."""

from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar
from urllib.parse import quote

import msgspec

from pyproxy.kube import machines, objects, records
from pyproxy.kube.objects import Object

T = TypeVar("T", bound=Object)


class Change(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """One line of a watch, as long as it is about an object of the right kind."""

    type: str
    object: T


@dataclass(frozen=True)
class Resource(Generic[T]):
    """A kind of object: its place in the API and its type with us."""

    group: str  # "" = the core group
    version: str
    plural: str
    kind: str
    type: type[T]
    is_namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, as objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of all objects, of those of a namespace, or of one."""
        root = f"/apis/{self.group}" if self.group else "/api"
        space = f"namespaces/{quote(namespace, safe='')}" if namespace else ""
        parts = (root, self.version, space, self.plural, quote(name, safe=""))
        return "/".join(part for part in (*parts, subresource) if part)

    def path_of(self, key: str, subresource: str = "") -> str:
        """Return the path of the object with a key."""
        namespace, _, name = key.rpartition("/")
        return self.path(namespace, name, subresource)

    @cached_property
    def decoder(self) -> "msgspec.json.Decoder[T]":
        """Reads one object."""
        return msgspec.json.Decoder(self.type)

    @cached_property
    def changes(self) -> "msgspec.json.Decoder[Change[T]]":
        """Reads one line of a watch."""
        return msgspec.json.Decoder(Change[self.type])  # type: ignore[name-defined]

    def encode(self, made: T) -> bytes:
        """Return the JSON of an object with its apiVersion and kind."""
        head = msgspec.json.encode({"apiVersion": self.api_version, "kind": self.kind})
        body = msgspec.json.encode(made)
        return head if body == b"{}" else head[:-1] + b"," + body[1:]


SERVICES = Resource("", "v1", "services", "Service", objects.Service)
PODS = Resource("", "v1", "pods", "Pod", machines.Pod)
NODES = Resource("", "v1", "nodes", "Node", machines.Node, is_namespaced=False)
EVENTS = Resource("", "v1", "events", "Event", records.Event)
ENDPOINT_SLICES = Resource(
    "discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", objects.EndpointSlice
)
SERVICE_CIDRS = Resource(
    *("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", objects.ServiceCIDR),
    is_namespaced=False,
)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", records.Lease)
TOKEN_REVIEWS = Resource(
    *("authentication.k8s.io", "v1", "tokenreviews", "TokenReview"),
    records.TokenReview,
    is_namespaced=False,
)
SUBJECT_ACCESS_REVIEWS = Resource(
    *("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview"),
    records.SubjectAccessReview,
    is_namespaced=False,
)
