"""The patches of the Kubernetes API: JSON (RFC 6902), merge (RFC 7386), strategic.

JSON patch is written out here because a client sees the texts of its errors, and those
of libraries are others than kube-apiserver's.
"""

import copy
from typing import Any

from pyproxy.sandbox.apiserver.schema import Object, Type

_SETTINGS = ("$patch", "$retainKeys")
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"


class PatchError(Exception):
    """The patch cannot be applied; str() says why."""


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch and return the result; nothing is changed in place."""
    if not isinstance(patch, dict):
        return patch
    made = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merge_patch(made.get(key), value)
    return dict(sorted(made.items()))


def json_patch(target: Object, operations: Any) -> Any:
    """Apply a JSON patch and return the result."""
    made: Any = copy.deepcopy(target)
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list")
    for operation in operations:
        if not isinstance(operation, dict):
            raise PatchError("an operation of a JSON patch is an object")
        made = _operate(made, operation)
    return made


def _operate(made: Any, operation: Object) -> Any:
    name, path = operation.get("op"), str(operation.get("path", ""))
    if name in ("move", "copy"):
        source = str(operation.get("from", ""))
        value = copy.deepcopy(_find(made, _tokens(source), name, source))
        if name == "move":
            made = _change(made, _tokens(source), "remove", source, None)
        return _change(made, _tokens(path), "add", path, value)
    if name == "test":
        if _find(made, _tokens(path), name, path) != operation.get("value"):
            raise PatchError(f"testing value {path} failed: test failed")
        return made
    if name not in ("add", "remove", "replace"):
        raise PatchError(f"Unexpected kind: {name}")
    return _change(made, _tokens(path), name, path, operation.get("value"))


def _tokens(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _missing(name: str, path: str) -> PatchError:
    why = "doc is missing path" if name == "add" else "doc is missing key"
    return PatchError(f"{name} operation does not apply: {why}: {path}: missing value")


def _find(target: Any, tokens: list[str], name: str, path: str) -> Any:
    for token in tokens:
        try:
            target = target[int(token) if isinstance(target, list) else token]
        except (KeyError, IndexError, ValueError, TypeError):
            raise _missing(name, path) from None
    return target


def _change(made: Any, tokens: list[str], name: str, path: str, value: Any) -> Any:
    if not tokens:
        return value
    parent, last = _find(made, tokens[:-1], name, path), tokens[-1]
    try:
        if isinstance(parent, list):
            _change_list(parent, last, name, value)
        elif name == "add":
            parent[last] = value
        else:
            parent[last]  # both need what is there
            if name == "remove":
                del parent[last]
            else:
                parent[last] = value
    except (KeyError, IndexError, ValueError, TypeError):
        raise _missing(name, path) from None
    return made


def _change_list(parent: list[Any], last: str, name: str, value: Any) -> None:
    place = len(parent) if last == "-" else int(last)
    if not 0 <= place < len(parent) + (name == "add"):
        raise IndexError(last)
    if name == "add":
        parent.insert(place, value)
    elif name == "remove":
        del parent[place]
    else:
        parent[place] = value


def strategic_patch(target: Any, patch: Object, kind: Type) -> Any:
    """Apply a strategic merge patch to a struct or map and return the result."""
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key not in _SETTINGS}
    made: Object = dict(target) if isinstance(target, dict) else {}
    if patch.get("$patch") == "delete":
        return {}
    if kept := patch.get("$retainKeys"):
        made = {key: value for key, value in made.items() if key in kept}
    for key, value in patch.items():
        needs_list = key == "$retainKeys" or key.startswith((_ORDER, _DELETE))
        if needs_list and not isinstance(value, list):
            raise PatchError(f"{key} is a list")
        if key in _SETTINGS or key.startswith(_ORDER):
            continue
        if key.startswith(_DELETE):
            name = key.removeprefix(_DELETE)
            had = made.get(name)
            kept = had if isinstance(had, list) else []
            made[name] = [item for item in kept if item not in value]
        elif value is None:
            made.pop(key, None)
        else:
            made[key] = _strategic(made.get(key), value, kind.at(key))
    for key, order in patch.items():
        if key.startswith(_ORDER) and (name := key.removeprefix(_ORDER)) in made:
            made[name] = _ordered(made[name], order, kind.at(name))
    return made


def _strategic(old: Any, value: Any, kind: Type) -> Any:
    if isinstance(value, dict):
        return strategic_patch(old, value, kind)
    if not isinstance(value, list) or kind.kind != "list":
        return value
    if kind.is_set:
        return [*(old or []), *(item for item in value if item not in (old or []))]
    if not kind.keys:
        return value
    return _merge_list(old or [], value, kind)


def _merge_list(old: list[Object], patch: list[Object], kind: Type) -> list[Object]:
    key = kind.keys[0]
    made = list(old)
    if not all(isinstance(item, dict) for item in patch):
        raise PatchError("an item of a list that merges is an object")
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    for item in patch:
        if key not in item:
            raise PatchError(f"map: {item} does not contain declared merge key: {key}")
        same = [number for number, o in enumerate(made) if o.get(key) == item[key]]
        if item.get("$patch") == "delete":
            made = [o for o in made if o.get(key) != item[key]]
        elif same:
            made[same[0]] = strategic_patch(made[same[0]], item, kind.items)
        else:
            made.append(strategic_patch({}, item, kind.items))
    return made


def _ordered(items: Any, order: list[Any], kind: Type) -> Any:
    """Sort as the patch wants; what it does not name keeps its place at the end."""
    if not isinstance(items, list) or not (kind.keys or kind.is_set):
        return items
    key = kind.keys[0] if kind.keys else ""
    if key and not all(isinstance(item, dict) and key in item for item in order):
        raise PatchError(f"{_ORDER}... names items by {key}")
    names = [item[key] if key else item for item in order]
    last = len(names)

    def place(item: Any) -> int:
        name = item.get(key) if key else item
        return names.index(name) if name in names else last

    return sorted(items, key=place)
