"""What is served, in the three ways that clients ask for it, and how healthy it is."""

import hashlib

from pyproxy.sandbox.apiserver.kinds import GROUPS, Resource, resources
from pyproxy.sandbox.apiserver.media import Format, encoded
from pyproxy.sandbox.apiserver.schema import Object

# The release that is imitated; what was not built says so behind the plus.
VERSION: Object = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2+sandbox",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
HEALTH = ("/healthz", "/livez", "/readyz")
CHECKS = ("ping", "log", "informer-sync", "shutdown")


def health(path: str, verbose: bool) -> str | None:
    """Answer `/readyz` and the like, also for a single check; None if it is none."""
    base = next((base for base in HEALTH if path in (base, f"{base}/")), "")
    if not base:
        is_check = any(path == f"{b}/{check}" for b in HEALTH for check in CHECKS)
        return "ok" if is_check else None
    if not verbose:
        return "ok"
    lines = "".join(f"[+]{check} ok\n" for check in CHECKS)
    return f"{lines}{base.removeprefix('/')} check passed\n"


def document(path: str, form: Format, address: str) -> Object | None:
    """Return the document of discovery that stands at a path, if one does."""
    parts = path.strip("/").split("/")
    if form.shape == "APIGroupDiscoveryList" and len(parts) == 1:
        return _aggregated(("",) if parts == ["api"] else GROUPS)
    if parts == ["api"]:
        place = {"clientCIDR": "0.0.0.0/0", "serverAddress": address}
        head = {"kind": "APIVersions", "versions": ["v1"]}
        return {**head, "serverAddressByClientCIDRs": [place]}
    if parts == ["apis"]:
        head = {"kind": "APIGroupList", "apiVersion": "v1"}
        return {**head, "groups": [_group(name) for name in GROUPS]}
    if parts == ["api", "v1"]:
        return _resource_list("", "v1")
    if parts[0] == "apis" and parts[1] in GROUPS:
        if len(parts) == 2:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1])}
        if parts[2:] == ["v1"]:
            return _resource_list(parts[1], f"{parts[1]}/v1")
    return None


def _group(name: str) -> Object:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resource_list(group: str, version: str) -> Object:
    # The core group, the oldest, does not tell its own version.
    head = {"kind": "APIResourceList"} | ({"apiVersion": "v1"} if group else {})
    found = [entry for made in resources(group).values() for entry in made.discovery()]
    return {**head, "groupVersion": version, "resources": found}


def _aggregated(groups: tuple[str, ...]) -> Object:
    head = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2"}
    found = []
    for name in groups:
        entries = [_aggregated_resource(made) for made in resources(name).values()]
        version = {"version": "v1", "resources": entries, "freshness": "Current"}
        found.append(
            {"metadata": {"name": name} if name else {}, "versions": [version]}
        )
    return {**head, "metadata": {}, "items": found}


def _aggregated_resource(made: Resource) -> Object:
    head: Object = {"resource": made.plural, "responseKind": _kind(made, made.kind)}
    head["scope"] = "Namespaced" if made.is_namespaced else "Cluster"
    head |= {"singularResource": made.singular, "verbs": list(made.verbs)}
    if made.short_name:
        head["shortNames"] = [made.short_name]
    if made.categories:
        head["categories"] = list(made.categories)
    subs = [
        {
            "subresource": name,
            "responseKind": _kind(made, kind, version),
            "verbs": list(verbs),
        }
        for name, version, kind, verbs in made.all_subresources()
    ]
    return head | ({"subresources": subs} if subs else {})


def _kind(made: Resource, kind: str, version: str = "") -> Object:
    group, _, number = version.partition("/") if version else (made.group, "", "v1")
    return {"group": group, "version": number, "kind": kind}


def etag(found: Object) -> str:
    """A name for this very document."""
    return f'"{hashlib.sha256(encoded(found)).hexdigest().upper()}"'
