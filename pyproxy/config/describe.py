"""What can stand in a configuration file, told by the structs themselves.

One source for the reference page, the example and the JSON Schema: names, types and
defaults are the structs', and what a field means is the comment beside it or above it.
"""

import ast
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from pyproxy.config.base import encode
from pyproxy.config.complaints import alternatives, item_in, struct_in
from pyproxy.config.duration import Seconds

REQUIRED = object()  # in place of a default

_COMMENT = re.compile(r"\A\s*#\s?(.*)\Z")


class Field(NamedTuple):
    """One field of a struct, as a file spells it."""

    name: str
    kind: Any  # annotation
    default: object  # plain data; REQUIRED if there is none
    text: str  # what it means, and its unit

    @property
    def struct(self) -> type | None:
        """The struct that stands here, or in each item of the list that does."""
        item = item_in(self.kind)
        return struct_in(self.kind if item is None else item)

    @property
    def is_list(self) -> bool:
        """Whether a list stands here."""
        return item_in(self.kind) is not None


def fields_of(struct: type) -> list[Field]:
    """Return the fields, in the order of the declaration."""
    texts: dict[str, str] = {}
    for each in reversed(struct.__mro__):
        if issubclass(each, msgspec.Struct) and each is not msgspec.Struct:
            texts.update(_comments(each))
    return [
        Field(each.encode_name, each.type, _default(each), texts.get(each.name, ""))
        for each in msgspec.structs.fields(struct)
    ]


def structs_in(struct: type) -> list[type]:
    """Return a struct and all that can stand in it, each once, outer ones first."""
    found = [struct]
    for each in found:
        inner = (field.struct for field in fields_of(each))
        found += [one for one in inner if one is not None and one not in found]
    return found


def summary(struct: type) -> str:
    """Return the first line of what a struct says of itself."""
    return (struct.__doc__ or "").partition("\n")[0]


def type_words(kind: Any) -> str:
    """Say for people what may stand in a field."""
    item = item_in(kind)
    if item is not None:
        return f"list of {type_words(item)}"
    return " or ".join(dict.fromkeys(_words(kind)))


def _words(kind: Any) -> Iterator[str]:
    lower, upper = _bounds(kind)
    for each in alternatives(kind):
        if typing.get_origin(each) is Literal:
            yield ", ".join(f"`{word}`" for word in typing.get_args(each))
        elif not isinstance(each, type) or each is type(None):
            continue
        elif issubclass(each, msgspec.Struct):
            yield f"[{each.__name__}](#{each.__name__.lower()})"
        elif issubclass(each, Seconds):
            yield "duration, or 0" if each.zero_allowed else "duration"
        else:
            word = {bool: "boolean", int: "whole number", float: "number"}
            span = f" from {lower} to {upper}" if upper is not None else ""
            yield word.get(each, "text") + span


def _bounds(kind: Any) -> tuple[object, object]:
    if typing.get_origin(kind) is Annotated:
        for meta in kind.__metadata__:
            if isinstance(meta, msgspec.Meta) and meta.le is not None:
                return meta.ge, meta.le
    for each in typing.get_args(kind):
        if typing.get_origin(each) is Annotated:
            return _bounds(each)
    return None, None


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.required:
        return REQUIRED
    value = field.default
    if value is msgspec.NODEFAULT:
        value = typing.cast("Any", field.default_factory)()
    return msgspec.to_builtins(value, enc_hook=encode)


@cache
def _comments(struct: type) -> dict[str, str]:
    """Return the comment of each field that stands in the body of a struct."""
    source = textwrap.dedent(inspect.getsource(struct))
    lines = source.splitlines()
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for node in body.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        last = (node.end_lineno or node.lineno) - 1
        beside = lines[last][node.end_col_offset :] if node.end_col_offset else ""
        above = list(_comment_above(lines, node.lineno - 1))
        match = _COMMENT.match(beside)
        found[node.target.id] = " ".join([*above, *([match[1]] if match else [])])
    return found


def _comment_above(lines: list[str], index: int) -> Iterator[str]:
    first = index
    while first > 0 and _COMMENT.match(lines[first - 1]):
        first -= 1
    for line in lines[first:index]:
        match = _COMMENT.match(line)
        yield match[1] if match else ""
