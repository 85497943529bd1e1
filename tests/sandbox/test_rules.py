"""Parts of the sandbox's API server that need no server: patches, selectors, kinds."""

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyproxy.sandbox.apiserver import protobuf
from pyproxy.sandbox.apiserver.cluster import Call, Cluster
from pyproxy.sandbox.apiserver.identity import MASTERS, Identity
from pyproxy.sandbox.apiserver.kinds import STORED, Resource, resource
from pyproxy.sandbox.apiserver.media import accepted, duration
from pyproxy.sandbox.apiserver.patches import (
    PatchError,
    json_patch,
    merge_patch,
    strategic_patch,
)
from pyproxy.sandbox.apiserver.refusal import Refusal
from pyproxy.sandbox.apiserver.route import Target, parse
from pyproxy.sandbox.apiserver.schema import BadField, Type, check, kind_type, structs
from pyproxy.sandbox.apiserver.seed import fill
from pyproxy.sandbox.apiserver.selectors import selector
from pyproxy.sandbox.apiserver.tables import table
from pyproxy.sandbox.apiserver.writes import create, delete, patch

PODS = resource("pods")


# RFC 7386, appendix A.
@pytest.mark.parametrize(
    ("target", "change", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_does_as_the_rfc_shows(
    target: Any, change: Any, result: Any
) -> None:
    assert merge_patch(target, change) == result


# RFC 6902, appendix A.
@pytest.mark.parametrize(
    ("target", "operation", "result"),
    [
        (
            {"foo": "bar"},
            {"op": "add", "path": "/baz", "value": 1},
            {"baz": 1, "foo": "bar"},
        ),
        (
            {"foo": [1, 3]},
            {"op": "add", "path": "/foo/1", "value": 2},
            {"foo": [1, 2, 3]},
        ),
        ({"foo": [1]}, {"op": "add", "path": "/foo/-", "value": 2}, {"foo": [1, 2]}),
        ({"baz": 1, "foo": 2}, {"op": "remove", "path": "/baz"}, {"foo": 2}),
        ({"foo": [1, 2, 3]}, {"op": "remove", "path": "/foo/1"}, {"foo": [1, 3]}),
        ({"a": 1}, {"op": "replace", "path": "/a", "value": 2}, {"a": 2}),
        (
            {"a": {"b": 1}},
            {"op": "move", "from": "/a/b", "path": "/c"},
            {"a": {}, "c": 1},
        ),
        ({"a": [1]}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": [1], "b": [1]}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": 1}, {"a": 1}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": 10}, None),
    ],
)
def test_json_patch_does_as_the_rfc_shows(
    target: Any, operation: Any, result: Any
) -> None:
    assert json_patch(target, [operation]) == (target if result is None else result)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/b"},
        {"op": "replace", "path": "/b", "value": 1},
        {"op": "add", "path": "/b/c", "value": 1},
        {"op": "add", "path": "/l/9", "value": 1},
        {"op": "add", "path": "/l/x", "value": 1},
        {"op": "move", "from": "/b", "path": "/c"},
        {"op": "frob", "path": "/a"},
    ],
)
def test_json_patch_that_does_not_apply_changes_nothing(operation: Any) -> None:
    target = {"a": 1, "l": [1]}
    with pytest.raises(PatchError):
        json_patch(target, [{"op": "remove", "path": "/a"}, operation])
    assert target == {"a": 1, "l": [1]}


def test_strategic_patch_merges_lists_by_key() -> None:
    pod = kind_type("Pod")
    target = {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}}
    change = {
        "spec": {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [
                {"name": "a", "image": "2"},
                {"name": "b", "$patch": "delete"},
                {"name": "c"},
            ],
        }
    }
    made = strategic_patch(target, change, pod)
    assert made["spec"]["containers"] == [{"name": "c"}, {"name": "a", "image": "2"}]
    with pytest.raises(PatchError, match="does not contain declared merge key: name"):
        strategic_patch(target, {"spec": {"containers": [{"image": "3"}]}}, pod)


def test_strategic_patch_replaces_what_says_so() -> None:
    target = {"metadata": {"labels": {"a": "1"}, "finalizers": ["x"]}}
    change = {
        "metadata": {"labels": {"$patch": "replace", "b": "2"}, "finalizers": ["y"]}
    }
    made = strategic_patch(target, change, kind_type("Pod"))["metadata"]
    assert made == {"labels": {"b": "2"}, "finalizers": ["x", "y"]}


@pytest.mark.parametrize(
    ("text", "accepts"),
    [
        ("app=web", True),
        ("app==web,tier", True),
        ("app!=web", False),
        ("app!=other", True),
        ("app in (web, api),!missing", True),
        ("app notin (web)", False),
        ("missing notin (web)", True),
        ("missing", False),
        ("!app", False),
        ("example.com/x=1", True),
        ("", True),
    ],
)
def test_label_selector_accepts(text: str, accepts: bool) -> None:
    labels = {"app": "web", "tier": "front", "example.com/x": "1"}
    found = {"metadata": {"name": "p", "labels": labels}}
    assert selector(PODS, {"labelSelector": text})(found) is accepts


def test_field_selector_compares_and_refuses() -> None:
    found = {"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {}}
    for text, accepts in (
        ("spec.nodeName=n,metadata.name!=q", True),
        ("status.phase=", True),
        ("status.phase!=", False),
    ):
        assert selector(PODS, {"fieldSelector": text})(found) is accepts
    with pytest.raises(Refusal, match="field label not supported"):
        selector(PODS, {"fieldSelector": "spec.image=x"})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (600, "10m")),
        *((3 * 3600, "3h"), (3 * 3600 + 60, "3h1m"), (8 * 3600, "8h")),
        *((48 * 3600, "2d"), (49 * 3600, "2d1h"), (8 * 86_400, "8d")),
        *((400 * 86_400, "400d"), (731 * 86_400, "2y1d"), (3000 * 86_400, "8y")),
    ],
)
def test_duration_is_short(seconds: int, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/api/v1/pods", ("list", "pods", "", "", "")),
        ("GET", "/api/v1/pods?watch=1", ("watch", "pods", "", "", "")),
        ("GET", "/api/v1/namespaces/a/pods/b/log", ("get", "pods", "a", "b", "log")),
        ("GET", "/api/v1/namespaces/a", ("get", "namespaces", "a", "a", "")),
        (
            "PUT",
            "/api/v1/namespaces/a/status",
            ("update", "namespaces", "a", "a", "status"),
        ),
        (
            "DELETE",
            "/api/v1/namespaces/a/pods",
            ("deletecollection", "pods", "a", "", ""),
        ),
        ("DELETE", "/api/v1/nodes/n", ("delete", "nodes", "", "n", "")),
        ("PATCH", "/apis/g/v1/namespaces/a/x/y", ("patch", "x", "a", "y", "")),
        ("POST", "/apis/g/v1/x", ("create", "x", "", "", "")),
    ],
)
def test_path_is_taken_apart(method: str, path: str, expected: tuple[str, ...]) -> None:
    path, _, query = path.partition("?")
    found = parse(method, path, {"watch": "1"} if query else {})
    parts = (found.verb, found.plural, found.namespace, found.name, found.subresource)
    assert parts == expected


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/apis/g/v1", "/version"])
def test_path_of_no_resource_is_plain(path: str) -> None:
    assert not parse("GET", path, {}).is_resource


@pytest.mark.parametrize(
    ("header", "shape"),
    [
        ("", ""),
        ("*/*", ""),
        ("application/json;as=Table;g=meta.k8s.io;v=v1,application/json", "Table"),
        ("application/json;as=Table;g=meta.k8s.io;v=v1beta1, application/json", ""),
        ("application/vnd.kubernetes.protobuf,application/json", ""),
    ],
)
def test_first_representation_that_is_served_is_taken(header: str, shape: str) -> None:
    assert accepted(header, ("Table",)).shape == shape


def test_protobuf_is_read() -> None:
    # From the wire: kubectl create configmap c --from-literal=a=b
    metadata = b"\x0a\x01c" + b"\x12\x00" + b"\x1a\x07default" + b"\x22\x00"
    data = b"\x0a\x01a\x12\x01b"
    raw = b"\x0a" + bytes([len(metadata)]) + metadata
    raw += b"\x12" + bytes([len(data)]) + data
    head = b"\x0a\x02v1\x12\x09ConfigMap"
    body = b"k8s\0\x0a" + bytes([len(head)]) + head
    body += b"\x12" + bytes([len(raw)]) + raw
    found = protobuf.read(body)
    assert found["kind"] == "ConfigMap"
    assert found["metadata"]["name"] == "c"
    assert found["data"] == {"a": "b"}


@given(st.binary(max_size=64))
def test_protobuf_of_any_bytes_is_read_or_refused(data: bytes) -> None:
    head = b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12"
    for body in (data, b"k8s\0" + data, head + bytes([len(data)]) + data):
        with contextlib.suppress(Refusal):
            protobuf.read(body)


@pytest.mark.slow
@given(
    target=st.dictionaries(st.sampled_from(["spec", "metadata"]), st.just({})),
    change=st.dictionaries(
        st.sampled_from(["spec", "metadata"]), st.deferred(lambda: DIRECTIVES)
    ),
)
def test_strategic_patch_of_any_shape_is_applied_or_refused(
    target: Any, change: Any
) -> None:
    with contextlib.suppress(PatchError):
        strategic_patch(target, change, kind_type("Service"))


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "x", 0, 7, True, [], {}, [None], {"a": None}, [{}]]
)
OPERATIONS = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
        "path": st.sampled_from(
            ["", "/spec", "/metadata/labels/a", "/spec/ports/0", "x"]
        ),
    },
    optional={
        "value": JUNK,
        "from": st.sampled_from(["/metadata/labels", "/nope", ""]),
    },
)
DIRECTIVES: st.SearchStrategy[Any] = st.dictionaries(
    st.sampled_from(
        [
            *("$patch", "$retainKeys", "$setElementOrder/ports", "ports", "name"),
            *("$deleteFromPrimitiveList/finalizers", "finalizers", "port"),
        ]
    ),
    st.deferred(lambda: JUNK | DIRECTIVES | st.lists(DIRECTIVES, max_size=2)),
    max_size=3,
)
GOOD = {
    "string": st.sampled_from(
        ["", "a", "10.0.0.1", "None", "ClusterIP", "LoadBalancer"]
    ),
    "int": st.sampled_from([0, 1, 80, 30_000, -1]),
    "bool": st.booleans(),
    "quantity": st.sampled_from(["1", "1Gi", 2]),
    "intstr": st.sampled_from([1, "http"]),
    "time": st.just("2026-01-01T00:00:00Z"),
    "microtime": st.just("2026-01-01T00:00:00.000000Z"),
}


def values(kind: Type, depth: int = 0) -> st.SearchStrategy[Any]:
    """Anything that a client may put into a field of this type, and some junk."""
    if depth > 6:
        return st.none()
    if kind.kind == "struct":
        fields = {
            name: later(field.type, depth + 1)
            for name, field in kind.struct.fields.items()
        }
        return st.fixed_dictionaries({}, optional=fields) | JUNK
    if kind.kind == "list":
        return st.lists(values(kind.items, depth + 1), max_size=2) | JUNK
    if kind.kind == "map":
        return st.dictionaries(
            st.sampled_from(["a", "b c"]), values(kind.at(""), depth + 1), max_size=2
        )
    return GOOD.get(kind.name, st.just("x"))


def later(kind: Type, depth: int) -> st.SearchStrategy[Any]:
    """The same, made when it is drawn from: few fields ever are."""
    return st.deferred(lambda: values(kind, depth))


def call(found: Resource, verb: str, name: str = "", subresource: str = "") -> Call:
    """A request by an administrator."""
    space = "default" if found.is_namespaced else ""
    parts = (found.group, "v1", found.plural, space, name, subresource)
    user = Identity("admin", "", (MASTERS,))
    return Call(Target(verb, "", True, *parts), {"fieldManager": "test"}, user)


@pytest.mark.slow
@pytest.mark.parametrize("found", STORED, ids=lambda found: str(found.plural))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40)
@given(data=st.data())
def test_any_object_is_stored_or_refused(found: Resource, data: st.DataObject) -> None:
    # Whatever a client sends: no handler may fail for another reason.
    cluster = Cluster()
    fill(cluster, is_populated=False)
    body = data.draw(st.fixed_dictionaries({}, optional=_fields(found)))
    head = {"kind": found.kind, "apiVersion": found.api_version}
    body = {**head, **body, "metadata": {"name": "it", "labels": {"a": "b"}}}
    change = data.draw(st.fixed_dictionaries({}, optional=_fields(found)))
    try:
        check(body, found.type)
        made = create(cluster, call(found, "create"), body)
        media = "application/merge-patch+json"
        patch(cluster, call(found, "patch", "it"), media, change)
        media = "application/strategic-merge-patch+json"
        patch(cluster, call(found, "patch", "it", "status"), media, change)
        operations = data.draw(st.lists(OPERATIONS, max_size=3) | JUNK)
        media = "application/json-patch+json"
        patch(cluster, call(found, "patch", "it"), media, operations)
    except (Refusal, BadField):
        return
    table(found, [made], {})
    gone, _ = delete(cluster, call(found, "delete", "it"), {})
    assert gone["kind"] in ("Status", found.kind)


def _fields(found: Resource) -> dict[Any, st.SearchStrategy[Any]]:
    fields = structs()[found.kind].fields
    return {n: values(f.type, 1) for n, f in fields.items() if n != "metadata"}
