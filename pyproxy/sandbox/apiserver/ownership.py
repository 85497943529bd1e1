"""Who set which field: `metadata.managedFields`.

A field is a path of FieldsV1 keys: `f:NAME` into a struct or map, `k:{...}` for the
item of a list by its keys, `v:...` for a member of a set. A map, a list of items and an
item have a path of their own beside those of what is in them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyproxy.sandbox.apiserver.schema import Object, Type

Path = tuple[str, ...]
CONTAINER = object()  # the value of a path that only says that something is there

_UNOWNED = {
    ("f:apiVersion",),
    ("f:metadata",),
    ("f:kind",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            *("name", "namespace", "uid", "resourceVersion", "generation", "selfLink"),
            *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
            *("managedFields",),
        )
    ),
}
# Keys that an item may leave out.
KEY_DEFAULTS = {"protocol": "TCP"}


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, how and when."""

    manager: str
    api_version: str
    now: str
    operation: str = "Update"
    subresource: str = ""

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What tells the entries of an object apart."""
        return self.manager, self.operation, self.api_version, self.subresource


@dataclass(slots=True)
class Entry:
    """What one writer owns."""

    writer: Writer
    paths: set[Path] = field(default_factory=set)

    def shown(self) -> Object:
        """As managedFields shows it."""
        writer = self.writer
        made = {"manager": writer.manager, "operation": writer.operation}
        made |= {"apiVersion": writer.api_version, "time": writer.now}
        made |= {"fieldsType": "FieldsV1"}
        shown: Object = {**made, "fieldsV1": _tree(self.paths)}
        return shown | (
            {"subresource": writer.subresource} if writer.subresource else {}
        )


def written(old: Object | None, new: Object, kind: Type, writer: Writer) -> Object:
    """Return `new` with managedFields after this writer made it out of `old`."""
    before = fields_of(old, kind, writer.subresource) if old else {}
    after = fields_of(new, kind, writer.subresource)
    changed = {p for p, value in after.items() if p not in before or before[p] != value}
    entries = entries_of(old)
    mine = entry_of(entries, writer)
    for entry in entries:
        if entry is not mine:
            entry.paths -= changed
        entry.paths -= before.keys() - after.keys()
    if changed:
        mine.paths |= changed
        mine.writer = writer
    return with_entries(new, entries)


def fields_of(found: Object, kind: Type, subresource: str = "") -> dict[Path, Any]:
    """Return every path of an object that can be owned, with its value.

    A status is written through its subresource and a spec is not; a manager that writes
    either in vain does not own it. An empty field at the top has no owner.
    """
    vain = ("f:spec",) if subresource == "status" else ("f:status",)
    return {
        path: value
        for path, value in _walk(found, kind, ())
        if path and path[:1] != vain and not {path, path[:2]} & _UNOWNED
        if len(path) > 1 or found[path[0].removeprefix("f:")]
    }


def _walk(
    value: Any, kind: Type, path: Path, *, is_pointer: bool = False
) -> Iterator[tuple[Path, Any]]:
    is_map = isinstance(value, dict) and kind.kind in ("struct", "map")
    if is_map and not kind.is_atomic:
        if is_pointer or not value:
            yield path, CONTAINER
        for key, item in value.items():
            inner = (*path, f"f:{key}")
            yield from _walk(item, kind.at(key), inner, is_pointer=kind.may_miss(key))
    elif isinstance(value, list) and kind.keys:
        if is_pointer:
            yield path, CONTAINER
        for item in value:
            inner = (*path, key_of(item, kind))
            yield inner, CONTAINER
            yield from _walk(item, kind.items, inner)
    elif isinstance(value, list) and kind.is_set:
        yield path, CONTAINER
        for item in value:
            yield (*path, f"v:{json.dumps(item)}"), CONTAINER
    else:
        yield path, value


def key_of(item: Object, kind: Type) -> str:
    """What tells an item of a list from the others."""
    keys = {key: item.get(key, KEY_DEFAULTS.get(key)) for key in sorted(kind.keys)}
    return f"k:{json.dumps(keys, separators=(',', ':'))}"


def _tree(paths: set[Path]) -> Object:
    tree: Object = {}
    for path in sorted(paths):
        node = tree
        for part in path:
            node = node.setdefault(part, {})
    for path in paths:
        node = tree
        for part in path:
            node = node[part]
        if node:
            node["."] = {}
    return _sorted(tree)


def _sorted(tree: Object) -> Object:
    return {key: _sorted(tree[key]) for key in sorted(tree)}


def _paths(tree: Object, path: Path = ()) -> Iterator[Path]:
    if path and (not tree or "." in tree):
        yield path
    for key, inner in tree.items():
        if key != ".":
            yield from _paths(inner, (*path, key))


def entries_of(found: Object | None) -> list[Entry]:
    """Read managedFields."""
    shown = found["metadata"].get("managedFields", []) if found else []
    return [
        Entry(
            Writer(
                entry.get("manager", ""),
                entry.get("apiVersion", ""),
                entry.get("time", ""),
                entry.get("operation", "Update"),
                entry.get("subresource", ""),
            ),
            set(_paths(entry.get("fieldsV1", {}))),
        )
        for entry in shown
    ]


def entry_of(entries: list[Entry], writer: Writer) -> Entry:
    """Return the entry of a writer, a new one if need be."""
    for entry in entries:
        if entry.writer.identity == writer.identity:
            return entry
    entries.append(Entry(writer))
    return entries[-1]


def with_entries(made: Object, entries: list[Entry]) -> Object:
    """Return a copy with these as managedFields."""
    left = [entry for entry in entries if entry.paths]
    left.sort(key=lambda e: (e.writer.operation, e.writer.now, e.writer.manager))
    metadata = {k: v for k, v in made["metadata"].items() if k != "managedFields"}
    if left:
        metadata["managedFields"] = [entry.shown() for entry in left]
    return {**made, "metadata": metadata}
