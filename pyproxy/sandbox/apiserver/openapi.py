"""OpenAPI v3 as far as kubectl reads it: whether the server validates, and `explain`.

kubectl looks at the parameters of a PATCH to see that field validation is done here,
and takes its own knowledge of types for the rest.
"""

import functools
import hashlib

from pyproxy.sandbox.apiserver.kinds import GROUPS, Resource, resources
from pyproxy.sandbox.apiserver.media import encoded
from pyproxy.sandbox.apiserver.schema import Object, Type, structs

_SCALARS: dict[str, Object] = {
    "int": {"type": "integer", "format": "int32"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "time": {"type": "string", "format": "date-time"},
    "microtime": {"type": "string", "format": "date-time"},
    "intstr": {"type": "string", "format": "int-or-string"},
    "any": {"type": "object"},
}
_PREFIX = "io.k8s.api"
_PARAMETERS = [
    {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    for name in ("dryRun", "fieldManager", "fieldValidation")
]


def index() -> Object:
    """Where the documents are; each address changes with its document."""
    paths = {}
    for group in ("", *GROUPS):
        path = f"apis/{group}/v1" if group else "api/v1"
        found = hashlib.sha256(encoded(document(path))).hexdigest().upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={found}"}
    return {"paths": paths}


@functools.cache
def document(path: str) -> Object | None:
    """Return the document of one group and version."""
    group = path.removeprefix("apis/").removesuffix("/v1") if path != "api/v1" else ""
    if path not in ("api/v1", f"apis/{group}/v1") or not resources(group):
        return None
    paths: Object = {}
    for made in resources(group).values():
        paths |= _paths(f"/{path}", made)
    schemas = {_name(name): _struct(name, group) for name in sorted(_reached(group))}
    head = {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.2"}}
    return {**head, "paths": paths, "components": {"schemas": schemas}}


def _name(struct: str) -> str:
    return f"{_PREFIX}.v1.{struct}"


def _paths(base: str, made: Resource) -> Object:
    place = f"{base}/namespaces/{{namespace}}" if made.is_namespaced else base
    kind = {"group": made.group, "version": "v1", "kind": made.kind}
    common = {"parameters": _PARAMETERS, "x-kubernetes-group-version-kind": kind}
    ref = {"$ref": f"#/components/schemas/{_name(made.kind)}"}
    answer = {"content": {"application/json": {"schema": ref}}}
    operation: Object = {**common, "responses": {"200": answer}}
    create = {"post": {**operation, "x-kubernetes-action": "post"}}
    if made.verbs == ("create",):
        return {f"{place}/{made.plural}": create}
    return {
        f"{place}/{made.plural}": create,
        f"{place}/{made.plural}/{{name}}": {
            "get": {**operation, "x-kubernetes-action": "get"},
            "patch": {**operation, "x-kubernetes-action": "patch"},
            "put": {**operation, "x-kubernetes-action": "put"},
        },
    }


def _reached(group: str) -> set[str]:
    """All structs that the kinds of a group are made of."""
    found: set[str] = set()
    left = [made.kind for made in resources(group).values()]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        for field in structs()[name].fields.values():
            kind = field.type
            while kind.item is not None:
                kind = kind.item
            if kind.kind == "struct":
                left.append(kind.name)
    return found


def _struct(name: str, group: str) -> Object:
    struct = structs()[name]
    fields = {key: _property(field.type) for key, field in struct.fields.items()}
    made: Object = {"type": "object", "description": name, "properties": fields}
    if "metadata" in struct.fields:
        text = {"type": "string"}
        made["properties"] = {"apiVersion": text, "kind": text, **fields}
        kind = {"group": group, "version": "v1", "kind": name}
        made["x-kubernetes-group-version-kind"] = [kind]
    return made


def _property(kind: Type) -> Object:
    if kind.kind == "struct":
        return {"allOf": [{"$ref": f"#/components/schemas/{_name(kind.name)}"}]}
    if kind.kind == "map":
        assert kind.item is not None
        return {"type": "object", "additionalProperties": _property(kind.item)}
    if kind.kind == "list":
        made: Object = {"type": "array", "items": _property(kind.items)}
        if kind.keys:
            made["x-kubernetes-list-map-keys"] = list(kind.keys)
            made["x-kubernetes-list-type"] = "map"
            made["x-kubernetes-patch-merge-key"] = kind.keys[0]
            made["x-kubernetes-patch-strategy"] = "merge"
        return made
    return _SCALARS.get(kind.name, {"type": "string"})
