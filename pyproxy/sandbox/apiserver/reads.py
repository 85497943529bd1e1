"""GET of one object and of many: selectors, pages, revisions."""

import base64
import json
from dataclasses import dataclass

from pyproxy.sandbox.apiserver.cluster import Call, Cluster
from pyproxy.sandbox.apiserver.media import Shape, partial
from pyproxy.sandbox.apiserver.refusal import (
    Cause,
    Refusal,
    bad_request,
    expired,
    invalid,
    not_found,
    too_large,
)
from pyproxy.sandbox.apiserver.schema import Object
from pyproxy.sandbox.apiserver.selectors import selector
from pyproxy.sandbox.apiserver.store import Key
from pyproxy.sandbox.apiserver.tables import table

_TOKEN = "meta.k8s.io/v1"
_EXPIRED = "The resourceVersion for the provided list is too old."
_EXPIRED_PAGE = (
    "The provided continue parameter is too old to display a consistent list "
    "result. You can start a new list without the continue parameter, or use the "
    "continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects "
    "that were created, modified, or deleted between the time the first chunk was "
    "returned and now may show up in the list."
)


def get(cluster: Cluster, call: Call, shape: Shape) -> Object:
    """Return one object in the shape that was asked for."""
    found = call.resource
    item = cluster.store.get(found, call.target.key)
    if item is None:
        raise not_found(found.plural, found.group, call.target.name)
    return shaped(call, item, shape)


def shaped(call: Call, item: Object, shape: Shape) -> Object:
    """Return an object as a Table, as its metadata, or as it is."""
    if shape == "Table":
        metadata = {"resourceVersion": item["metadata"]["resourceVersion"]}
        return table(call.resource, [item], metadata, include_object(call))
    return partial(item) if shape == "PartialObjectMetadata" else item


def include_object(call: Call) -> str:
    """How much of the object goes into each row of a Table."""
    return call.query.get("includeObject", "")


@dataclass(frozen=True, slots=True)
class Page:
    """What a list is asked for."""

    revision: int  # as of which
    start: Key = ("", "")  # after which key; the first page is after none
    is_first: bool = True
    limit: int = 0  # 0 = all


def items(cluster: Cluster, call: Call, shape: Shape) -> Object:
    """Return a list in the shape that was asked for."""
    page = _page(cluster, call)
    accepts = selector(call.resource, call.query)
    shelf = cluster.store.shelf(call.resource)
    is_latest = page.revision >= cluster.store.revision
    objects = shelf.objects if is_latest else shelf.at(page.revision)
    space = call.target.namespace if call.resource.is_namespaced else ""
    keys = [key for key in objects if not space or key[0] == space]
    # Keys are sorted as they stand in etcd, where the namespace is part of a path.
    keys.sort(key=_path)
    if not page.is_first:
        keys = [key for key in keys if _path(key) > _path(page.start)]
    found = [key for key in keys if accepts(objects[key])]
    metadata: Object = {"resourceVersion": str(page.revision)}
    rest = found[page.limit :] if page.limit else []
    if rest:
        found = found[: page.limit]
        metadata["continue"] = _continue(page.revision, found[-1], space)
        if not call.query.get("labelSelector") and not call.query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(rest)
    return _list(call, [objects[key] for key in found], metadata, shape)


def _path(key: Key) -> str:
    return "/".join(key)


def _list(call: Call, found: list[Object], metadata: Object, shape: Shape) -> Object:
    resource = call.resource
    if shape == "Table":
        return table(resource, found, metadata, include_object(call))
    if shape == "PartialObjectMetadata":
        head = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
        return {**head, "metadata": metadata, "items": [partial(i) for i in found]}
    head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version}
    bare = [{k: i[k] for k in i if k not in ("kind", "apiVersion")} for i in found]
    return {**head, "metadata": metadata, "items": bare}


def _page(cluster: Cluster, call: Call) -> Page:
    query, latest = call.query, cluster.store.revision
    limit = parsed_number(query.get("limit", ""))
    asked = parsed_revision(query.get("resourceVersion", ""))
    match = query.get("resourceVersionMatch", "")
    if token := query.get("continue", ""):
        if asked:
            what = "specifying resource version is not allowed when using continue"
            raise bad_request(what)
        return _next_page(cluster, call, token, limit)
    if match not in ("", "Exact", "NotOlderThan"):
        known = ("Exact", "NotOlderThan", "")
        cause = Cause.unsupported("resourceVersionMatch", match, known)
        raise invalid("ListOptions", "meta.k8s.io", "", [cause])
    if match and not query.get("resourceVersion"):
        why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        raise _bad_options("resourceVersionMatch", why)
    if asked > latest:
        raise too_large(asked, latest)
    if match == "Exact" or (limit and asked and match != "NotOlderThan"):
        if asked < cluster.store.shelf(call.resource).forgotten:
            raise expired(_EXPIRED)
        return Page(asked, limit=limit)
    return Page(latest, limit=limit)


def parsed_number(text: str) -> int:
    """Read a number in a query; none is 0."""
    try:
        return int(text or 0)
    except ValueError as error:
        why = f'strconv.ParseInt: parsing "{text}": invalid syntax'
        raise bad_request(why) from error


def parsed_revision(text: str) -> int:
    """Read a resourceVersion; none is 0."""
    if not text:
        return 0
    if not text.isascii() or not text.isdecimal():
        why = f'strconv.ParseUint: parsing "{text}": invalid syntax'
        raise Refusal(500, "", f'resourceVersion: Invalid value: "{text}": {why}')
    return int(text)


def _bad_options(name: str, why: str) -> Refusal:
    return invalid("ListOptions", "meta.k8s.io", "", [Cause.forbidden(name, why)])


def streaming_refusal(call: Call) -> Refusal | None:
    """What is wrong with the options of a streaming list."""
    name = "resourceVersionMatch"
    if call.query.get(name) != "NotOlderThan":
        why = f"sendInitialEvents requires setting {name} to NotOlderThan"
        return _bad_options(name, why)
    return None


def _continue(revision: int, last: Key, space: str) -> str:
    start = "/".join(("", last[1] if space else _path(last).lstrip("/"))) + "\0"
    token = {"v": _TOKEN, "rv": revision, "start": start}
    text = json.dumps(token, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _next_page(cluster: Cluster, call: Call, token: str, limit: int) -> Page:
    try:
        padded = token + "=" * (-len(token) % 4)
        raw = base64.urlsafe_b64decode(padded)
    except ValueError as error:
        raise bad_request(f"invalid continue token: {error}") from error
    try:
        found = json.loads(raw)
        revision, start = int(found["rv"]), str(found["start"]).strip("/\0")
    except (ValueError, KeyError, TypeError) as error:
        sign = f"'\\u{raw[0]:04x}'" if raw and raw[0] > 126 else f"'{raw[:1].decode()}'"
        why = f"invalid character {sign} looking for beginning of value"
        what = f"invalid continue token: continue key is not valid: {why}"
        raise bad_request(what) from error
    space = call.target.namespace if call.resource.is_namespaced else ""
    key = (space, start) if space else (start.rpartition("/")[0], start.split("/")[-1])
    if revision < 0:  # from what a 410 offered
        return Page(cluster.store.revision, key, is_first=False, limit=limit)
    if revision < cluster.store.shelf(call.resource).forgotten:
        raise expired(_EXPIRED_PAGE, _continue(-1, key, space))
    return Page(revision, key, is_first=False, limit=limit)
