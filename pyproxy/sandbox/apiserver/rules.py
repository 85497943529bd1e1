"""What the API server does to objects of each kind, on top of storing them.

Three steps, as in kube-apiserver: defaults fill in what a client may leave out, then it
owns the fields that it set, and then the server prepares the rest and validates.
"""

import base64
import ipaddress
import re
from collections.abc import Callable, Iterator

from pyproxy.sandbox.apiserver import podrules, services
from pyproxy.sandbox.apiserver.kinds import Resource
from pyproxy.sandbox.apiserver.refusal import Cause
from pyproxy.sandbox.apiserver.schema import Object
from pyproxy.sandbox.apiserver.store import Store

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or"
    " '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or"
    f" '123-abc', regex used for validation is '{_LABEL}')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters,"
    " '-' or '.', and must start and end with an alphanumeric character (e.g."
    f" 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start"
    " and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or"
    f" '123-abc', regex used for validation is '{_QUALIFIED}')"
)
_LOOPBACK = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
NOT_READY = "node.kubernetes.io/not-ready"
RBAC = "rbac.authorization.k8s.io"
IMMUTABLE = "field is immutable"


def default(resource: Resource, found: Object) -> None:
    """Fill in, in place, what a client may leave out."""
    if resource.plural in _DEFAULTS:
        _DEFAULTS[resource.plural](found)


def prepare(
    resource: Resource, found: Object, old: Object | None, store: Store
) -> None:
    """Fill in, in place, what only the server can."""
    if resource.plural == "services":
        services.prepare(found, old, store)
    elif resource.plural == "pods":
        podrules.prepare(found)
    elif resource.plural == "nodes" and old is None:
        taints = found["spec"].setdefault("taints", [])
        if not any(taint["key"] == NOT_READY for taint in taints):
            taints.append({"key": NOT_READY, "effect": "NoSchedule"})
    elif resource.plural == "namespaces" and old is None:
        found["spec"]["finalizers"] = ["kubernetes"]
        found["status"]["phase"] = "Active"


def early_causes(
    resource: Resource, found: Object, old: Object | None, store: Store
) -> list[Cause]:
    """Say what an object asks for that the server cannot prepare."""
    if resource.plural != "services":
        return []
    taken = services.allocation_causes(found, store) if old is None else ()
    return [*services.early_causes(found), *taken]


def causes(resource: Resource, found: Object, old: Object | None) -> list[Cause]:
    """Say what is wrong with an object; nothing, if it may be stored."""
    checks = _CAUSES.get(resource.plural)
    own = checks(found, old) if checks else ()
    return [*_name_causes(resource, found), *own]


def status_causes(resource: Resource, found: Object) -> list[Cause]:
    """Say what is wrong with an object's status."""
    return list(services.status_causes(found)) if resource.plural == "services" else []


def _name_causes(resource: Resource, found: Object) -> Iterator[Cause]:
    name = found["metadata"].get("name", "")
    if resource.group == RBAC:
        return  # any path segment will do
    is_label = resource.plural in ("services", "namespaces")
    pattern, text = (_LABEL, _LABEL_TEXT) if is_label else (_SUBDOMAIN, _SUBDOMAIN_TEXT)
    if not re.fullmatch(pattern, name):
        yield Cause.invalid("metadata.name", name, text)
    for key in found["metadata"].get("labels", {}):
        if not re.fullmatch(_QUALIFIED, key.rpartition("/")[2]):
            yield Cause.invalid("metadata.labels", key, _QUALIFIED_TEXT)


def _default_namespace(namespace: Object) -> None:
    labels = namespace["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = namespace["metadata"].get("name", "")


def _default_slice(found: Object) -> None:
    for port in found.get("ports") or []:
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _default_endpoints(found: Object) -> None:
    for subset in found.get("subsets", []):
        for port in subset.get("ports", []):
            port.setdefault("protocol", "TCP")


def _default_secret(secret: Object) -> None:
    secret.setdefault("type", "Opaque")
    for key, text in secret.pop("stringData", {}).items():
        data = secret.setdefault("data", {})
        data[key] = base64.b64encode(text.encode()).decode()


def _default_binding(binding: Object) -> None:
    if not binding["roleRef"].get("apiGroup"):
        binding["roleRef"]["apiGroup"] = RBAC
    for subject in binding.get("subjects", []):
        if subject["kind"] != "ServiceAccount":
            subject.setdefault("apiGroup", RBAC)


_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "clusterrolebindings": _default_binding,
    "endpoints": _default_endpoints,
    "endpointslices": _default_slice,
    "namespaces": _default_namespace,
    "pods": podrules.default,
    "rolebindings": _default_binding,
    "secrets": _default_secret,
    "services": services.default,
}


def _slice_causes(found: Object, old: Object | None) -> Iterator[Cause]:
    kind = found["addressType"]
    if kind not in ("IPv4", "IPv6", "FQDN"):
        yield Cause.unsupported("addressType", kind, ("FQDN", "IPv4", "IPv6"))
    if old is not None and kind != old["addressType"]:
        yield Cause.invalid("addressType", kind, IMMUTABLE)
        return
    for number, endpoint in enumerate(found["endpoints"] or []):
        for place, address in enumerate(endpoint["addresses"] or []):
            yield from _address_causes(
                kind, address, f"endpoints[{number}].addresses[{place}]"
            )


def _address_causes(kind: str, text: str, path: str) -> Iterator[Cause]:
    if kind == "FQDN":
        return
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        why = f"must be a valid {kind} address"
        yield Cause.invalid(path, text, why)
        return
    if address.is_loopback:
        yield Cause.invalid(path, text, _LOOPBACK)


def _config_causes(found: Object, old: Object | None) -> Iterator[Cause]:
    if old is not None and old.get("immutable"):
        if any(found.get(key) != old.get(key) for key in ("data", "binaryData")):
            yield Cause.forbidden("data", "field is immutable when `immutable` is set")


_CAUSES: dict[str, Callable[[Object, Object | None], Iterator[Cause]]] = {
    "configmaps": _config_causes,
    "endpointslices": _slice_causes,
    "pods": podrules.causes,
    "secrets": _config_causes,
    "services": services.causes,
}
