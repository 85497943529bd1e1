"""Server-side apply: who applies a field owns it; what is applied no longer goes."""

import json
from typing import Any

from pyproxy.sandbox.apiserver.ownership import (
    CONTAINER,
    KEY_DEFAULTS,
    Entry,
    Path,
    Writer,
    entries_of,
    entry_of,
    fields_of,
    key_of,
    with_entries,
)
from pyproxy.sandbox.apiserver.refusal import Refusal
from pyproxy.sandbox.apiserver.schema import Object, Type


def applied(
    live: Object | None, config: Object, kind: Type, writer: Writer, *, force: bool
) -> Object:
    """Return what server-side apply makes of `live`.

    Raises:
        Refusal: somebody else set a field to another value, and `force` was not asked.
    """
    entries = entries_of(live)
    mine = entry_of(entries, writer)
    wanted = _leaves(fields_of(config, kind, writer.subresource))
    present = fields_of(live, kind, writer.subresource) if live else {}
    others = [entry for entry in entries if entry is not mine]
    differing = {
        path
        for path, value in wanted.items()
        if value is not CONTAINER and path in present and present[path] != value
    }
    conflicts = [(e, p) for e in others for p in sorted(e.paths & differing)]
    if conflicts and not force:
        raise _conflict(conflicts)
    for entry in others:
        entry.paths -= differing
    made = _merge(live or {}, config, kind)
    for path in sorted(mine.paths - wanted.keys(), key=len):
        if not any(_covers(entry.paths, path) for entry in others):
            _remove(made, path, is_container=present.get(path) is CONTAINER)
    if mine.paths != wanted.keys():
        mine.writer = writer
    mine.paths = set(wanted)
    return with_entries(made, entries)


def _leaves(found: dict[Path, Any]) -> dict[Path, Any]:
    """Leave out what is there only because something is in it; items count."""
    inner = {path[:length] for path in found for length in range(len(path))}
    return {
        path: value
        for path, value in found.items()
        if value is not CONTAINER or path not in inner or path[-1][0] == "k"
    }


def _covers(paths: set[Path], path: Path) -> bool:
    """Whether one of these is the path, or inside it."""
    return any(other[: len(path)] == path for other in paths)


def _merge(live: Any, config: Any, kind: Type) -> Any:
    if isinstance(config, dict) and kind.kind in ("struct", "map"):
        made = dict(live) if isinstance(live, dict) else {}
        for key, value in config.items():
            made[key] = _merge(made.get(key), value, kind.at(key))
        return made
    if isinstance(config, list) and kind.keys:
        items = {key_of(item, kind): item for item in live or []}
        for item in config:
            name = key_of(item, kind)
            items[name] = _merge(items.get(name), item, kind.items)
        return list(items.values())
    if isinstance(config, list) and kind.is_set:
        return [*(live or []), *(item for item in config if item not in (live or []))]
    return config


def _remove(made: Object, path: Path, *, is_container: bool) -> None:
    """Take a path out of what was made; a container that holds something stays."""
    node: Any = made
    for number, part in enumerate(path):
        last = number == len(path) - 1
        if part.startswith("f:"):
            if not isinstance(node, dict) or part[2:] not in node:
                return
            if last and not (is_container and node[part[2:]]):
                del node[part[2:]]
            if last:
                return
            # On the way down everything is copied: others hold the live object.
            node[part[2:]] = _copy(node[part[2:]])
            node = node[part[2:]]
        else:
            found = [item for item in node if _is(item, part)]
            if last and found:
                node.remove(found[0])
            if last or not found:
                return
            node[node.index(found[0])] = node = _copy(found[0])


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, dict | list) else value


def _is(item: Any, part: str) -> bool:
    wanted = json.loads(part[2:])
    if part.startswith("v:"):
        return bool(item == wanted)
    return all(item.get(k, KEY_DEFAULTS.get(k)) == v for k, v in wanted.items())


def _conflict(conflicts: list[tuple[Entry, Path]]) -> Refusal:
    by_writer: dict[str, list[str]] = {}
    for entry, path in conflicts:
        by_writer.setdefault(_named(entry.writer), []).append(_dotted(path))
    causes, texts = [], []
    for name, fields in sorted(by_writer.items()):
        for field in fields:
            what = {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {name}",
            }
            causes.append({**what, "field": field})
        if len(fields) == 1:
            texts.append(f"conflict with {name}: {fields[0]}")
        else:
            lines = "".join(f"\n- {field}" for field in fields)
            texts.append(f"conflicts with {name}:{lines}")
    count = f"{len(conflicts)} conflict{'s' * (len(conflicts) > 1)}"
    message = f"Apply failed with {count}: " + "\n".join(texts)
    return Refusal(409, "Conflict", message, {"causes": causes})


def _named(writer: Writer) -> str:
    name = f'"{writer.manager}"'
    if writer.subresource:
        name += f' with subresource "{writer.subresource}"'
    if writer.operation == "Update":
        name += f" using {writer.api_version}"
    return name


def _dotted(path: Path) -> str:
    """`.spec.ports[port=80,protocol="TCP"].name`."""
    return "".join(_dotted_part(part) for part in path)


def _dotted_part(part: str) -> str:
    if part.startswith("f:"):
        return f".{part[2:]}"
    if part.startswith("v:"):
        return f"[={part[2:]}]"
    keys = json.loads(part[2:]).items()
    return "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in keys) + "]"
