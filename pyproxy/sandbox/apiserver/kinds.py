"""The resources that the API server serves, as discovery tells them."""

import functools
from dataclasses import dataclass

from pyproxy.sandbox.apiserver.schema import Object, Type, kind_type

ALL_VERBS = "create delete deletecollection get list patch update watch".split()
STATUS_VERBS = ("get", "patch", "update")


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of one group and version."""

    group: str
    plural: str
    kind: str
    short_name: str = ""
    is_namespaced: bool = True
    has_status: bool = False
    returns_deleted: bool = False  # DELETE answers with the object, not a Status
    counts_generations: bool = False
    made_by_update: bool = False  # PUT makes what is not there
    categories: tuple[str, ...] = ()
    storage_hash: str = ""
    verbs: tuple[str, ...] = tuple(ALL_VERBS)
    subresources: tuple[tuple[str, str, str, tuple[str, ...]], ...] = ()

    @property
    def singular(self) -> str:
        """The name of one."""
        return self.kind.lower()

    @property
    def api_version(self) -> str:
        """As objects write it."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def type(self) -> Type:
        """Of the objects."""
        return kind_type(self.kind)

    def discovery(self) -> list[Object]:
        """Entries of an APIResourceList, subresources after the resource."""
        own: Object = {"name": self.plural, "singularName": self.singular}
        own |= {"namespaced": self.is_namespaced, "kind": self.kind}
        own["verbs"] = list(self.verbs)
        if self.short_name:
            own["shortNames"] = [self.short_name]
        if self.categories:
            own["categories"] = list(self.categories)
        if self.storage_hash:
            own["storageVersionHash"] = self.storage_hash
        return [own, *(self._subresource(*sub) for sub in self.all_subresources())]

    def all_subresources(self) -> list[tuple[str, str, str, tuple[str, ...]]]:
        """Name, group and version where they differ, kind, verbs."""
        found = list(self.subresources)
        if self.has_status:
            found.append(("status", "", self.kind, STATUS_VERBS))
        return sorted(found)

    def _subresource(
        self, name: str, version: str, kind: str, verbs: tuple[str, ...]
    ) -> Object:
        made: Object = {"name": f"{self.plural}/{name}", "singularName": ""}
        made["namespaced"] = self.is_namespaced
        if version:
            made["group"], made["version"] = version.split("/")
        return made | {"kind": kind, "verbs": list(verbs)}


RBAC = "rbac.authorization.k8s.io"
TOKEN = ("token", "authentication.k8s.io/v1", "TokenRequest", ("create",))

LOG = ("log", "", "Pod", ("get",))
EXEC = ("exec", "", "PodExecOptions", ("create", "get"))

STORED = (
    Resource("", "configmaps", "ConfigMap", "cm", storage_hash="qFsyl6wFWjQ="),
    Resource(
        *("", "endpoints", "Endpoints", "ep"),
        storage_hash="fWeeMqaN/OA=",
        made_by_update=True,
    ),
    Resource(
        *("", "events", "Event", "ev"),
        storage_hash="r2yiGXH7wu8=",
        made_by_update=True,
    ),
    Resource(
        *("", "namespaces", "Namespace", "ns"),
        is_namespaced=False,
        has_status=True,
        storage_hash="Q3oi5N2YM8M=",
        verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
        returns_deleted=True,
    ),
    Resource(
        *("", "nodes", "Node", "no"),
        is_namespaced=False,
        has_status=True,
        storage_hash="XwShjMxG9Fs=",
    ),
    Resource(
        *("", "pods", "Pod", "po"),
        has_status=True,
        categories=("all",),
        storage_hash="xPOwRZ+Yhw8=",
        returns_deleted=True,
        counts_generations=True,
        subresources=(EXEC, LOG),
    ),
    Resource("", "secrets", "Secret", storage_hash="S6u1pOWzb84="),
    Resource(
        *("", "serviceaccounts", "ServiceAccount", "sa"),
        storage_hash="pbx9ZvyFpBE=",
        returns_deleted=True,
        subresources=(TOKEN,),
    ),
    Resource(
        *("", "services", "Service", "svc"),
        has_status=True,
        categories=("all",),
        storage_hash="0/CO1lhkEBI=",
        made_by_update=True,
        returns_deleted=True,
    ),
    Resource(
        *("coordination.k8s.io", "leases", "Lease"),
        storage_hash="gqkMMb/YqFM=",
        made_by_update=True,
    ),
    Resource(
        *("discovery.k8s.io", "endpointslices", "EndpointSlice"),
        storage_hash="qgS0xkrxYAI=",
        counts_generations=True,
    ),
    Resource(
        *(RBAC, "clusterrolebindings", "ClusterRoleBinding"),
        is_namespaced=False,
        made_by_update=True,
    ),
    Resource(
        *(RBAC, "clusterroles", "ClusterRole"),
        is_namespaced=False,
        made_by_update=True,
    ),
    Resource(RBAC, "rolebindings", "RoleBinding", made_by_update=True),
    Resource(RBAC, "roles", "Role", made_by_update=True),
)


def _review(
    group: str, plural: str, kind: str, *, is_namespaced: bool = False
) -> Resource:
    return Resource(group, plural, kind, is_namespaced=is_namespaced, verbs=("create",))


AUTHENTICATION = "authentication.k8s.io"
AUTHORIZATION = "authorization.k8s.io"

REVIEWS = (
    _review(AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview"),
    _review(AUTHENTICATION, "tokenreviews", "TokenReview"),
    _review(
        AUTHORIZATION,
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        is_namespaced=True,
    ),
    _review(AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review(AUTHORIZATION, "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    _review(AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview"),
)

# In the order in which kube-apiserver lists them.
GROUPS = (
    AUTHENTICATION,
    AUTHORIZATION,
    RBAC,
    "coordination.k8s.io",
    "discovery.k8s.io",
)


@functools.cache
def resources(group: str) -> dict[str, Resource]:
    """Plural -> resource, of one group."""
    return {made.plural: made for made in (*STORED, *REVIEWS) if made.group == group}


def resource(plural: str, group: str = "") -> Resource:
    """One that is known to exist."""
    return resources(group)[plural]
