"""Label and field selectors: which objects a list or a watch is about."""

import re
from collections.abc import Callable, Mapping

from pyproxy.sandbox.apiserver.kinds import Resource
from pyproxy.sandbox.apiserver.refusal import bad_request
from pyproxy.sandbox.apiserver.schema import Object

Predicate = Callable[[Object], bool]

_KEY = r"[A-Za-z0-9][\w./-]*"
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_COMPARE = re.compile(rf"({_KEY})\s*(==|=|!=)\s*([\w.-]*)")
_EXISTS = re.compile(rf"(!?)\s*({_KEY})")
_SPLIT = re.compile(r",(?![^()]*\))")  # a comma, but none inside brackets

# Beside metadata.name and metadata.namespace, which every kind has.
FIELDS = {
    "pods": (
        *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName"),
        *("spec.serviceAccountName", "spec.hostNetwork"),
        *("status.phase", "status.podIP", "status.nominatedNodeName"),
    ),
    "events": (
        *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid")),
        *("involvedObject.apiVersion", "involvedObject.resourceVersion"),
        *("involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"),
    ),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "services": ("spec.clusterIP", "spec.type"),
}


def selector(resource: Resource, query: Mapping[str, str]) -> Predicate:
    """Return what both selectors of a request accept."""
    tests = [
        *_label_tests(query.get("labelSelector", "")),
        *_field_tests(resource, query.get("fieldSelector", "")),
    ]
    return lambda found: all(test(found) for test in tests)


def _label_tests(text: str) -> list[Predicate]:
    parts = [part.strip() for part in _SPLIT.split(text)] if text.strip() else []
    return [_label_test(part, text) for part in parts]


def _label_test(part: str, text: str) -> Predicate:
    if match := _SET.fullmatch(part):
        key, how, inside = match.groups()
        values = {value.strip() for value in inside.split(",")}
        if how == "in":
            return lambda found: _labels(found).get(key) in values
        return lambda found: _labels(found).get(key) not in values
    if match := _COMPARE.fullmatch(part):
        key, how, value = match.groups()
        if how == "!=":
            return lambda found: _labels(found).get(key) != value
        return lambda found: _labels(found).get(key) == value
    if match := _EXISTS.fullmatch(part):
        missing, key = bool(match[1]), match[2]
        return lambda found: (key in _labels(found)) is not missing
    raise bad_request(f'unable to parse requirement: found "{part}" in "{text}"')


def _labels(found: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = found["metadata"].get("labels") or {}
    return labels


def _field_tests(resource: Resource, text: str) -> list[Predicate]:
    tests = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        tests.append(_field_test(resource, *match.groups()))
    return tests


def _field_test(resource: Resource, path: str, how: str, value: str) -> Predicate:
    known = {"metadata.name", *FIELDS.get(resource.plural, ())}
    if resource.is_namespaced:
        known.add("metadata.namespace")
    if path not in known:
        raise bad_request(f"field label not supported: {path}")
    return lambda found: (_field(found, path) == value) is not (how == "!=")


def _field(found: Object, path: str) -> str:
    if path == "source":
        path = "source.component"
    value: object = found
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return str(value).lower() if isinstance(value, bool) else str(value)
