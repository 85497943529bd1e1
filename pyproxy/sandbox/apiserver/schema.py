"""What the table of fields means: which fields exist, which lists merge, what is empty.

An object that was read from a client becomes canonical here: unknown fields gone, empty
ones left out or written out, in the order in which kube-apiserver writes them.
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pyproxy.sandbox.apiserver.fields import TABLE

Object = dict[str, Any]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_LAYOUTS = {
    "time": "2006-01-02T15:04:05Z07:00",
    "microtime": "2006-01-02T15:04:05.000000Z07:00",
}
_GO_TYPES = {"int": "int32", "bytes": "[]uint8", "time": "v1.Time"}
_ZERO: dict[str, Any] = {"string": "", "int": 0, "bool": False}


class BadField(Exception):
    """A value that does not fit its field; str() is what Go's decoder would say."""


@dataclass(frozen=True, slots=True)
class Type:
    """What a field holds."""

    kind: Literal["scalar", "struct", "map", "list"]
    name: str = ""  # of a scalar or a struct
    item: "Type | None" = None  # of a map or a list
    keys: tuple[str, ...] = ()  # of a list of structs that merge
    is_set: bool = False
    is_whole: bool = False  # owned as one field

    @property
    def struct(self) -> "Struct":
        """The struct that this names."""
        return structs()[self.name]

    def at(self, field: str) -> "Type":
        """The type of what stands under `field`; "any" where nobody knows."""
        if self.kind == "struct":
            found = self.struct.fields.get(field)
            return found.type if found else ANY
        if self.kind == "map" and self.item is not None:
            return self.item
        return ANY

    @property
    def items(self) -> "Type":
        """The type of a list's items."""
        return self.item if self.kind == "list" and self.item is not None else ANY

    def may_miss(self, field: str) -> bool:
        """Whether a field is one that is left out when there is nothing in it."""
        found = self.struct.fields.get(field) if self.kind == "struct" else None
        return found is None or not found.is_always

    @property
    def is_atomic(self) -> bool:
        """Whether nobody owns a part of it."""
        return self.is_whole or (self.kind == "struct" and self.struct.is_whole)

    def zero(self) -> Any:
        """What Go writes for a field that must be written and was not set."""
        if self.kind == "struct":
            return canonical({}, self)
        return _ZERO.get(self.name) if self.kind == "scalar" else None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct."""

    type: Type
    is_always: bool  # written even when empty
    is_pointer: bool  # its zero is a value
    number: int  # in protobuf; 0 = none


@dataclass(frozen=True, slots=True)
class Struct:
    """All fields, in order."""

    fields: dict[str, Field]
    is_open: bool  # takes fields that nobody listed
    is_whole: bool  # owned as one field


ANY = Type("scalar", "any")
SCALARS = ("string", "int", "bool", "bytes", "time", "microtime", "quantity", "intstr")


@functools.cache
def structs() -> dict[str, Struct]:
    """Parse the table."""
    lines = re.sub(r"\n +", " ", TABLE).strip().splitlines()
    parts = (line.partition(": ") for line in lines)
    return {
        name.removesuffix("^"): _struct(rest, is_whole=name.endswith("^"))
        for name, _, rest in parts
    }


def _struct(text: str, *, is_whole: bool) -> Struct:
    fields = {}
    number = 0
    for part in text.split(", "):
        name, _, kind = part.partition(" ")
        if name != "*":
            mark = name[0] if name[0] in "!?" else ""
            name, _, own = name.removeprefix(mark).partition("@")
            number = int(own) if own else number + 1
            fields[name] = Field(_type(kind), mark == "!", mark == "?", number)
    return Struct(fields, "*" in text.split(", "), is_whole)


def _type(text: str) -> Type:
    if text.startswith("{"):
        inner = text.removesuffix("^")[1:-1]
        return Type("map", item=_type(inner), is_whole=text.endswith("^"))
    if text.startswith("["):
        item, _, keys = text[1:-1].partition(" ")
        merging = tuple(keys.split("+")) if keys and keys != "*" else ()
        return Type("list", item=_type(item), keys=merging, is_set=keys == "*")
    known = text in SCALARS or text == "any"
    return Type("scalar" if known else "struct", text)


def kind_type(kind: str) -> Type:
    """The type of a whole object."""
    return Type("struct", kind)


def canonical(value: Any, kind: Type) -> Any:
    """Return `value` as kube-apiserver would store and write it."""
    if kind.kind == "struct" and isinstance(value, dict):
        return _canonical_struct(value, kind.struct)
    if kind.kind == "list" and isinstance(value, list):
        return [_canonical_item(item, kind.items) for item in value]
    if kind.kind == "map" and isinstance(value, dict):
        return {key: _canonical_item(value[key], kind.at(key)) for key in sorted(value)}
    if kind.name == "quantity" and isinstance(value, int | float):
        return str(value)
    return value


def _canonical_item(value: Any, kind: Type) -> Any:
    return kind.zero() if value is None else canonical(value, kind)


def _canonical_struct(value: Object, struct: Struct) -> Object:
    # apiVersion and kind are no fields of their own, and always come first.
    made = {
        key: value[key] for key in ("kind", "apiVersion") if _heads(key, value, struct)
    }
    for name, field in struct.fields.items():
        item = value.get(name)
        if item is not None:
            item = canonical(item, field.type)
        is_empty = item is None or (not field.is_pointer and item in _EMPTY)
        if field.is_always:
            made[name] = field.type.zero() if is_empty else item
        elif not is_empty or (item == {} and _may_be_empty(field.type)):
            made[name] = item
    if struct.is_open:
        made |= {key: item for key, item in value.items() if key not in made}
    return made


def _may_be_empty(kind: Type) -> bool:
    """Whether nothing but braces is a value: a pointer to a struct."""
    return kind.kind == "struct" or kind.name == "any"


_EMPTY: tuple[Any, ...] = ("", 0, False, [], {})


def _heads(key: str, value: Object, struct: Struct) -> bool:
    return key in value and key not in struct.fields and "metadata" in struct.fields


def unknown_fields(value: Any, kind: Type, path: str = "") -> Iterator[str]:
    """Name every field that the kind does not have, as the decoder names them."""
    if kind.kind == "struct" and isinstance(value, dict):
        struct = kind.struct
        heads = ("apiVersion", "kind") if "metadata" in struct.fields else ()
        for key, item in value.items():
            inner = f"{path}.{key}".lstrip(".")
            if key in struct.fields:
                yield from unknown_fields(item, struct.fields[key].type, inner)
            elif not struct.is_open and key not in heads:
                yield f'unknown field "{inner}"'
    elif kind.kind == "list" and isinstance(value, list):
        for number, item in enumerate(value):
            yield from unknown_fields(item, kind.items, f"{path}[{number}]")
    elif kind.kind == "map" and isinstance(value, dict):
        for key, item in value.items():
            yield from unknown_fields(item, kind.at(key), f"{path}.{key}")


def check(value: Any, kind: Type, owner: str = "", path: str = "") -> None:
    """Raise BadField where a value does not fit its field."""
    if value is None or kind is ANY or kind.name == "any":
        return
    expected: Any = {"list": list, "map": dict, "struct": dict}.get(kind.kind)
    expected = expected or _PYTHON[kind.name]
    if not isinstance(value, expected) or (kind.name == "int" and value is True):
        raise BadField(
            f"json: cannot unmarshal {_json_name(value)} into Go struct field"
            f" {owner}.{path} of type {_go_type(kind)}"
        )
    if kind.kind == "struct":
        for key, item in value.items():
            check(item, kind.at(key), kind.name, f"{path}.{key}".lstrip("."))
    elif kind.kind == "list":
        for item in value:
            check(item, kind.items, owner, path)
    elif kind.kind == "map":
        for item in value.values():
            check(item, kind.at(""), owner, path)
    elif kind.name in _LAYOUTS:
        _check_time(value, kind.name)


_PYTHON: dict[str, Any] = {
    "int": int,
    "bool": bool,
    "quantity": str | int | float,
    "intstr": str | int,
} | dict.fromkeys(("string", "bytes", "time", "microtime"), str)


def _check_time(text: str, name: str) -> None:
    layout = _LAYOUTS[name]
    match = _TIME.fullmatch(text)
    if match is None:
        rest, wanted = text, "2006"
    elif name == "microtime" and match[1] is None:
        rest, wanted = match[2], ".000000"
    else:
        return
    what = f'parsing time "{text}" as "{layout}"'
    raise BadField(f'{what}: cannot parse "{rest}" as "{wanted}"')


def _go_type(kind: Type) -> str:
    if kind.kind == "list":
        return f"[]{_go_type(kind.items)}"
    if kind.kind == "map":
        return f"map[string]{_go_type(kind.at(''))}"
    return (
        f"v1.{kind.name}"
        if kind.kind == "struct"
        else _GO_TYPES.get(kind.name, kind.name)
    )


def _json_name(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    names = {str: "string", int: "number", float: "number", list: "array"}
    return names.get(type(value), "object")
