"""Everything that is wrong with a document, each with its place.

The library stops at the first mistake; a person wants to mend all of them at once. So
a document is taken apart along the annotations of the structs: each leaf is converted
by itself, and a struct as a whole once its fields are right, for its own checks.
"""

import difflib
import typing
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union

import msgspec

Decode = Callable[[type, object], object]


def expanded(value: Any, kind: Any) -> Any:
    """Return a document whose short forms are written out.

    A text stands for a mapping with one field where the struct names it: a server may
    be written `10.0.0.1:6443` instead of `{address: "10.0.0.1:6443"}`.
    """
    struct, item = struct_in(kind), item_in(kind)
    if item is not None and isinstance(value, list | tuple):
        return [expanded(each, item) for each in value]
    if struct is None:
        return value
    short = getattr(struct, "short_form", "")
    if short and isinstance(value, str):
        return {short: value}
    if not isinstance(value, Mapping):
        return value
    kinds = {f.encode_name: f.type for f in msgspec.structs.fields(struct)}
    return {
        name: expanded(each, kinds[name]) if name in kinds else each
        for name, each in value.items()
    }


def complaints_about(
    value: object, kind: Any, decode: Decode, place: str = "$"
) -> Iterator[str]:
    """Yield each mistake, in the order of the document."""
    struct, item = struct_in(kind), item_in(kind)
    found: list[str] = []
    if struct is not None and isinstance(value, Mapping):
        found = list(_about_struct(value, struct, decode, place))
        kind = struct
    elif item is not None and isinstance(value, list):
        for index, each in enumerate(value):
            found += complaints_about(each, item, decode, f"{place}[{index}]")
    elif choices := _choices_of(kind, value):
        found = [f"{place}: {value!r} is none of {choices}"]
    if not found:
        try:
            msgspec.convert(value, kind, strict=True, dec_hook=decode)
        except msgspec.ValidationError as error:
            found = [placed(str(error), place)]
    yield from found


def placed(message: str, place: str) -> str:
    """`Expected X - at `$.a`` -> `$.a: expected X`, as all our messages read."""
    text, _, below = message.rpartition(" - at ")
    place += below.strip("`").removeprefix("$") if text else ""
    text = (text or message).replace("`array`", "a list").replace("`object`", "mapping")
    text = text.replace("`", "")
    if text.startswith("."):  # from one of our own checks, which knows the field
        return f"{place}{text}"
    return f"{place}: {text[:1].lower()}{text[1:]}"


def _about_struct(
    value: Mapping[Any, object], struct: type, decode: Decode, place: str
) -> Iterator[str]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    meant = set()
    for name, each in value.items():
        if name in fields:
            kind = fields[name].type
            yield from complaints_about(each, kind, decode, f"{place}.{name}")
            continue
        near = _nearest(name, list(fields))
        meant.add(near)
        hint = f", did you mean {near}?" if near else ""
        yield f"{place}.{name}: unknown field{hint}"
    for name, field in fields.items():
        if field.required and name not in value and name not in meant:
            yield f"{place}: object missing required field {name}"


def struct_in(kind: Any) -> type | None:
    """Return the struct of `S`, `S | None` or `Annotated[S, ...]`."""
    for each in alternatives(kind):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            return each
    return None


def item_in(kind: Any) -> Any:
    """Return X of `tuple[X, ...]`, None where no list is expected."""
    for each in alternatives(kind):
        if typing.get_origin(each) is tuple:
            return typing.get_args(each)[0]
    return None


def _choices_of(kind: Any, value: object) -> str:
    """Return the words that are possible where `value` is none of them, else ""."""
    for each in alternatives(kind):
        if typing.get_origin(each) is Literal:
            words = typing.get_args(each)
            return "" if value in words else ", ".join(sorted(map(str, words)))
    return ""


def alternatives(kind: Any) -> Iterator[Any]:
    """Yield the types that a value may have, less annotations."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        yield from alternatives(typing.get_args(kind)[0])
    elif origin in (Union, UnionType):
        for each in typing.get_args(kind):
            yield from alternatives(each)
    else:
        yield kind


def _nearest(name: object, known: list[str]) -> str:
    lower = {field.lower(): field for field in known}
    close = difflib.get_close_matches(str(name).lower(), lower, n=1)
    return lower[close[0]] if close else ""
