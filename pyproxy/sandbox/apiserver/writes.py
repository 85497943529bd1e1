"""POST, PUT, PATCH and DELETE: how objects come to be, change and go."""

import copy
import json
import random
import uuid
from typing import Any

from pyproxy.sandbox.apiserver import rules
from pyproxy.sandbox.apiserver.apply import applied
from pyproxy.sandbox.apiserver.cluster import Call, Cluster
from pyproxy.sandbox.apiserver.kinds import Resource, resource
from pyproxy.sandbox.apiserver.ownership import Writer, written
from pyproxy.sandbox.apiserver.patches import (
    PatchError,
    json_patch,
    merge_patch,
    strategic_patch,
)
from pyproxy.sandbox.apiserver.refusal import (
    Cause,
    Refusal,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    stale,
)
from pyproxy.sandbox.apiserver.route import is_true
from pyproxy.sandbox.apiserver.schema import (
    BadField,
    Object,
    canonical,
    check,
    unknown_fields,
)
from pyproxy.sandbox.apiserver.store import Key, with_revision

# Neither vowels nor digits that look like them: no words come about.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
# What a client cannot change.
_KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def create(
    cluster: Cluster, call: Call, body: Object, managed: list[Object] | None = None
) -> Object:
    """Add an object and return it; `managed` when it is known who owns its fields."""
    found, target = call.resource, call.target
    made: Object = canonical(body, found.type)
    metadata = made["metadata"]
    _settle_namespace(cluster, call, metadata)
    for name in (*_KEPT, "resourceVersion", "selfLink", "generation", "managedFields"):
        metadata.pop(name, None)
    if not metadata.get("name") and metadata.get("generateName"):
        tail = "".join(random.choices(_ALPHABET, k=5))
        metadata["name"] = f"{metadata['generateName']}{tail}"
    if not metadata.get("name"):
        cause = Cause.required("metadata.name", "name or generateName is required")
        raise invalid(found.kind, found.group, "", [cause])
    if found.has_status and found.plural != "pods":
        made["status"] = found.type.at("status").zero()
    metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": cluster.now()}
    metadata["resourceVersion"] = "0"  # its place, until it is stored
    if found.counts_generations:
        metadata["generation"] = 1
    rules.default(found, made)
    if managed is None:
        made = _owned(cluster, call, None, made)
    else:
        metadata["managedFields"] = managed
    key = (target.namespace if found.is_namespaced else "", metadata["name"])
    if cluster.store.get(found, key) is not None:
        raise already_exists(found.plural, found.group, key[1])
    return _finish(cluster, call, key, None, made)


def _settle_namespace(cluster: Cluster, call: Call, metadata: Object) -> None:
    if not call.resource.is_namespaced:
        metadata.pop("namespace", None)
        return
    asked = call.target.namespace
    if metadata.setdefault("namespace", asked) != asked:
        what = "the namespace of the provided object does not match"
        raise bad_request(f"{what} the namespace sent on the request")
    space = cluster.store.get(resource("namespaces"), ("", asked))
    if space is None:
        raise not_found("namespaces", "", asked)
    if "deletionTimestamp" in space["metadata"]:
        why = "unable to create new content in namespace"
        why = f"{why} {asked} because it is being terminated"
        name = metadata.get("name", "")
        refusal = forbidden(call.resource.plural, call.resource.group, name, why)
        message = f"namespace {asked} is being terminated"
        cause = {"reason": "NamespaceTerminating", "message": message}
        cause["field"] = "metadata.namespace"
        refusal.details = {**(refusal.details or {}), "causes": [cause]}
        raise refusal


def update(cluster: Cluster, call: Call, body: Object) -> tuple[Object, bool]:
    """Replace an object; return it, and whether it was not there."""
    found, key = call.resource, call.target.key
    made: Object = canonical(body, found.type)
    made["metadata"].setdefault("name", key[1])
    if made["metadata"]["name"] != key[1]:
        name = made["metadata"]["name"]
        what = f"the name of the object ({name}) does not match the name on the URL"
        raise bad_request(f"{what} ({key[1]})")
    if found.made_by_update and cluster.store.get(found, key) is None:
        return create(cluster, call, made), True
    return _replace(cluster, call, _current(cluster, call), made), False


def _current(cluster: Cluster, call: Call) -> Object:
    found = call.resource
    old = cluster.store.get(found, call.target.key)
    if old is None:
        raise not_found(found.plural, found.group, call.target.name)
    return old


def _replace(cluster: Cluster, call: Call, old: Object, made: Object) -> Object:
    found, key = call.resource, call.target.key
    head = {"kind": found.kind, "apiVersion": found.api_version}
    made = copy.deepcopy({**made, **head})  # a patch may have taken them away
    metadata, was = made["metadata"], old["metadata"]
    if metadata.get("uid", was["uid"]) != was["uid"]:
        where = "/".join(("/registry", found.plural, *filter(None, key)))
        why = f"StorageError: invalid object, Code: 4, Key: {where},"
        why += " ResourceVersion: 0, AdditionalErrorMsg: Precondition failed:"
        why += f" UID in precondition: {metadata['uid']},"
        why += f" UID in object meta: {was['uid']}"
        raise conflict(found.plural, found.group, key[1], why)
    version = metadata.get("resourceVersion", "")
    if version not in ("", "0", was["resourceVersion"]):
        raise stale(found.plural, found.group, key[1])
    for name in (*_KEPT, "name", "namespace", "resourceVersion", "generation"):
        metadata.pop(name, None)
        if name in was:
            metadata[name] = was[name]
    metadata.pop("managedFields", None)
    if call.target.subresource == "status":
        made |= {name: old[name] for name in old if name not in ("status", "metadata")}
    elif found.has_status:
        made["status"] = copy.deepcopy(old["status"])
    rules.default(found, made)
    made = _owned(cluster, call, old, made)
    return _finish(cluster, call, key, old, made)


def _owned(cluster: Cluster, call: Call, old: Object | None, made: Object) -> Object:
    """Write down whose fields these are now, in the order of the table."""
    writer = _writer(cluster, call)
    return written(old, canonical(made, call.resource.type), call.resource.type, writer)


def _writer(cluster: Cluster, call: Call, operation: str = "Update") -> Writer:
    version, sub = call.resource.api_version, call.target.subresource
    return Writer(call.manager, version, cluster.now(), operation, sub)


def _finish(
    cluster: Cluster, call: Call, key: Key, old: Object | None, made: Object
) -> Object:
    """Prepare, validate and store; an object that nothing keeps any more goes."""
    found = call.resource
    made = copy.deepcopy(made)
    if call.target.subresource == "status":
        causes = rules.status_causes(found, made)
    else:
        if early := rules.early_causes(found, made, old, cluster.store):
            raise invalid(found.kind, found.group, key[1], early)
        rules.prepare(found, made, old, cluster.store)
        causes = rules.causes(found, made, old)
    if causes:
        raise invalid(found.kind, found.group, key[1], causes)
    made = canonical(made, found.type)
    if made == old:
        return old
    if found.counts_generations and old is not None and _moved(made, old):
        made["metadata"]["generation"] = old["metadata"]["generation"] + 1
    if call.is_dry:
        if old is None:
            del made["metadata"]["resourceVersion"]
        return made
    if old is not None and "deletionTimestamp" in made["metadata"]:
        if not _is_kept(found, made):
            cluster.store.remove(found, key)
            return made
    return cluster.store.put(found, key, made)


def _is_kept(found: Resource, made: Object) -> bool:
    """Whether something still has to happen before a deleted object may go."""
    if made["metadata"].get("finalizers"):
        return True
    if found.plural == "namespaces":
        return bool(made["spec"].get("finalizers"))
    # A pod with a grace period goes when its kubelet says so.
    return found.plural == "pods" and _grace(made) > 0


def _grace(made: Object) -> int:
    return int(made["metadata"].get("deletionGracePeriodSeconds", 0))


def _moved(made: Object, old: Object) -> bool:
    """Whether more changed than metadata and status; of a slice, anything at all."""
    if made["kind"] == "EndpointSlice":
        return True
    names = (made.keys() | old.keys()) - {"metadata", "status"}
    return any(made.get(name) != old.get(name) for name in names)


def patch(cluster: Cluster, call: Call, media: str, body: Any) -> tuple[Object, bool]:
    """Change an object; return it, and whether apply made it anew."""
    found = call.resource
    if media == "application/apply-patch+yaml":
        return _apply(cluster, call, body)
    old = _current(cluster, call)
    if media != "application/json-patch+json" and not isinstance(body, dict):
        what = "json: cannot unmarshal into Go value of type map[string]interface {}"
        raise bad_request(f"error decoding patch: {what}")
    try:
        if media == "application/json-patch+json":
            made = json_patch(old, body)
        elif media == "application/merge-patch+json":
            made = merge_patch(old, body)
        elif media == "application/strategic-merge-patch+json":
            made = strategic_patch(old, body, found.type)
        else:
            message = "415: Unsupported Media Type"
            raise Refusal(415, "UnsupportedMediaType", message, {})
    except PatchError as error:
        message = "the server rejected our request due to an error in our request"
        if media == "application/json-patch+json":
            raise Refusal(422, "Invalid", message, {}) from error
        raise bad_request(str(error)) from error
    if not isinstance(made, dict):
        raise bad_request("the patch leaves no object")
    try:
        check(made, found.type)
        unknown = list(unknown_fields(made, found.type))
        if unknown and call.query.get("fieldValidation") == "Strict":
            raise BadField(f"strict decoding error: {', '.join(unknown)}")
    except BadField as error:
        shown = json.dumps(dict(sorted(made.items())), separators=(",", ":"))
        quoted = shown.replace("\\", "\\\\").replace('"', '\\"')
        cause = Cause("patch", f'Invalid value: "{quoted}": {error}')
        raise invalid("", "", "", [cause]) from error
    if not call.target.subresource and found.has_status:
        made["status"] = old["status"]
    return _replace(cluster, call, old, canonical(made, found.type)), False


def _apply(cluster: Cluster, call: Call, body: Object) -> tuple[Object, bool]:
    found, key = call.resource, call.target.key
    old = cluster.store.get(found, key)
    if not call.query.get("fieldManager"):
        why = "is required for apply patch"
        cause = Cause.required("fieldManager", why)
        raise invalid("PatchOptions", "meta.k8s.io", "", [cause])
    for field in unknown_fields(body, found.type):
        name = field.partition('"')[2].rstrip('"')
        version = found.api_version if found.group else "/v1"
        space = body.get("metadata", {}).get("namespace", "")
        what = f"({space}/{key[1]}; {version}, Kind={found.kind})"
        message = f"failed to create typed patch object {what}: .{name}:"
        raise Refusal(500, "", f"{message} field not declared in schema")
    writer = _writer(cluster, call, "Apply")
    config = canonical(body, found.type)
    config["metadata"].pop("managedFields", None)
    # What the table writes although it is empty was not applied by anybody.
    config = {name: config[name] for name in config if name in body}
    force = is_true(call.query, "force")
    made = applied(old, config, found.type, writer, force=force)
    managed = made["metadata"].get("managedFields", [])
    if old is None:
        return create(cluster, call, made, managed), True
    made = canonical(made, found.type)
    rules.default(found, made)
    made["metadata"]["managedFields"] = managed
    return _finish(cluster, call, key, old, made), False


def delete(cluster: Cluster, call: Call, options: Object) -> tuple[Object, bool]:
    """Delete an object; return it or a Status, and whether it is gone."""
    found, key = call.resource, call.target.key
    old = _current(cluster, call)
    for name, wanted in options.get("preconditions", {}).items():
        is_uid = name == "uid"
        has = old["metadata"]["uid" if is_uid else "resourceVersion"]
        if wanted and wanted != has:
            word = "UID" if is_uid else "ResourceVersion"
            done = "deleted and then recreated" if is_uid else "modified"
            why = f"the {word} in the precondition ({wanted}) does not match the {word}"
            why += f" in record ({has}). The object might have been {done}"
            raise conflict(found.kind, found.group, key[1], why)
    if call.is_dry:
        return _deleted(found, old), True
    metadata = {**old["metadata"]}
    grace = _grace_asked(call, old, options)
    if "deletionTimestamp" not in metadata or grace < _grace(old):
        metadata["deletionTimestamp"] = cluster.now()
        metadata["deletionGracePeriodSeconds"] = grace
        if "generation" in metadata:
            metadata["generation"] += 1
    made = {**old, "metadata": metadata}
    if found.plural == "namespaces":
        del metadata["deletionGracePeriodSeconds"]
        made["status"] = {**old["status"], "phase": "Terminating"}
    made = canonical(made, found.type)
    if _is_kept(found, made):
        if made != old:
            made = cluster.store.put(found, key, made)
        return made, False
    gone = cluster.store.remove(found, key)
    if found.plural == "pods":
        return with_revision(made, int(gone["metadata"]["resourceVersion"])), True
    if found.returns_deleted:
        return gone, True
    return _deleted(found, gone), True


def _grace_asked(call: Call, old: Object, options: Object) -> int:
    """Seconds that a running pod has to end; nothing else has any."""
    if call.resource.plural != "pods" or not old["spec"].get("nodeName"):
        return 0
    asked = options.get("gracePeriodSeconds")
    if asked is None and "gracePeriodSeconds" in call.query:
        asked = int(call.query["gracePeriodSeconds"])
    if asked is None:
        asked = old["spec"].get("terminationGracePeriodSeconds", 30)
    return int(asked)


def _deleted(found: Resource, gone: Object) -> Object:
    details: Object = {"name": gone["metadata"]["name"]}
    if found.group:
        details["group"] = found.group
    details |= {"kind": found.plural, "uid": gone["metadata"]["uid"]}
    made: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
    return made | {"status": "Success", "details": details}
