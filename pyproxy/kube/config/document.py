"""YAML or JSON to plain data and to structs, read as kubectl reads it.

Of several documents in a file the first counts. As in encoding/json, null leaves a
field as it is, and is the zero of its kind as an item of a list.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import yaml

from pyproxy.kube.config import goyaml

T = TypeVar("T")
Hook = Callable[[type, Any], Any]


def parse(raw: bytes) -> dict[str, Any]:
    """Return the mapping in `raw`. Raise ValueError saying why there is none."""
    value = _read(raw)
    if value is None:
        return {}
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else type(value).__name__
        raise ValueError(f"expected a mapping, got {kind}")
    return value


def read_as(raw: bytes, kind: type[T], hook: Hook | None = None) -> T:
    """Return what is in `raw` as a struct. Raise ValueError saying what is wrong."""
    return convert(parse(raw), kind, hook)


def convert(value: dict[str, Any], kind: type[T], hook: Hook | None = None) -> T:
    """Make a struct of plain data with nulls in it. Raise ValueError."""
    try:
        return msgspec.convert(_zeroed(value, kind), kind, dec_hook=hook)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("`", "")) from None


def _read(raw: bytes) -> object:
    if raw.lstrip()[:1] == b"{":
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            pass  # YAML in flow style, perhaps
    try:
        return goyaml.load(raw)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}: " if mark else ""
        # Nothing of the file itself: a password may begin with `*` or `!`.
        problem = re.sub("'([^']*)'", _veil, str(error.problem))
        raise ValueError(f"yaml: {place}{problem}") from None
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise ValueError(f"yaml: not readable ({type(error).__name__})") from None
    except ValueError as error:
        raise ValueError(f"yaml: {error}") from None


def _veil(quoted: re.Match[str]) -> str:
    return quoted[0] if len(quoted[1]) == 1 else "'…'"  # a bracket may be shown


def _zeroed(value: Any, kind: Any) -> Any:
    """Return `value`, to become a `kind`, without the nulls in it."""
    kind = _named(kind)
    if isinstance(value, dict) and get_origin(kind) is dict:
        item = get_args(kind)[1]
        return {
            k: _zero(item) if v is None else _zeroed(v, item) for k, v in value.items()
        }
    if isinstance(value, dict) and _is_struct(kind):
        fields = _fields(kind)
        said = ((k, v) for k, v in value.items() if v is not None and k in fields)
        return {k: _zeroed(v, fields[k]) for k, v in said}
    if isinstance(value, list) and get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return [_zero(item) if v is None else _zeroed(v, item) for v in value]
    return value


def _zero(kind: Any) -> object:
    if _is_struct(kind) or get_origin(kind) is dict:
        return {}
    return "" if kind is str else []


def _named(kind: Any) -> Any:
    """Return what an optional kind is if it is there."""
    others = [each for each in get_args(kind) if each is not NoneType]
    is_optional = get_origin(kind) is not tuple and NoneType in get_args(kind)
    return others[0] if is_optional else kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


@cache
def _fields(kind: type[msgspec.Struct]) -> Mapping[str, Any]:
    return {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
