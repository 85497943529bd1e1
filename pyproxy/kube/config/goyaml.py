"""YAML to what JSON could say, value by value as kubectl's parser does it.

That parser (sigs.k8s.io/yaml, its goyaml.v2) is neither YAML 1.1 nor 1.2: `y` is true,
`0o7` is 7, `12:30` and dates are text, unknown tags are ignored, what is merged wins
over what stood before it. libyaml reads the syntax; what it means is here.

Source: goyaml.v2 resolve.go and decode.go, restated; each rule was tried with kubectl.
"""

import base64
import binascii
import math
import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

_SafeLoader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_MOST_ALIASED = 400_000  # values that stand behind `*name`, all of them together

_WORDS: dict[str, tuple[str, object]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), ("null", None)),
    **dict.fromkeys("y Y yes Yes YES true True TRUE on On ON".split(), ("bool", True)),
    **dict.fromkeys("n N no No NO false False FALSE".split(), ("bool", False)),
    **dict.fromkeys("off Off OFF".split(), ("bool", False)),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), ("float", math.nan)),
    **dict.fromkeys((".inf", ".Inf", ".INF"), ("float", math.inf)),
    **dict.fromkeys(("+.inf", "+.Inf", "+.INF"), ("float", math.inf)),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), ("float", -math.inf)),
}
_INT = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[oO]?([0-7]+)|0[bB]([01]+)|(\d+))")
_FLOAT = re.compile(r"[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?", re.ASCII)
_TIME = re.compile(
    r"\d{4}-\d\d?-\d\d?(?:(?:[Tt]|\s+)\d\d?:\d\d?:\d\d?(?:\.\d+)?"
    r"(?:Z|[-+]\d\d:\d\d)?)?",
    re.ASCII,
)
_RESOLVED = ("", "str", "bool", "int", "float", "null", "timestamp")


class _Node(NamedTuple):
    """A value, and what a merge must know of it."""

    value: Any
    weight: int  # values in it, itself included
    is_map: bool = False
    items: "tuple[_Node, ...] | None" = None  # of a list that was written here


def load(raw: bytes) -> object:
    """Return the first document, None = none. Raise ValueError or YAMLError."""
    loader = _SafeLoader(raw)
    try:
        return _Composer(loader, raw).first()
    finally:
        loader.dispose()


class _Composer:
    """Values out of the events of libyaml."""

    def __init__(self, loader: Any, raw: bytes) -> None:
        self._loader = loader
        # Only a file with a bare `!` in it needs its text for that: libyaml hides it.
        self._text = raw.decode("utf-8", "replace") if b"! " in raw else ""
        self._known: dict[str, _Node | None] = {}  # None = it is being read
        self._aliased = 0

    def first(self) -> object:
        self._loader.get_event()  # the stream begins
        if self._loader.check_event(yaml.StreamEndEvent):
            return None
        self._loader.get_event()  # the document begins
        return _finite(self._node().value)

    def _node(self) -> _Node:
        event = self._loader.get_event()
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.anchor:
            self._known[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(_scalar(event, is_text=self._is_text(event))[1], 1)
        elif isinstance(event, yaml.SequenceStartEvent):
            items = tuple(self._items(yaml.SequenceEndEvent))
            values = [item.value for item in items]
            node = _Node(values, 1 + sum(item.weight for item in items), items=items)
        else:
            node = self._mapping()
        if event.anchor:
            self._known[event.anchor] = node
        return node

    def _items(self, end: type) -> Iterator[_Node]:
        while not self._loader.check_event(end):
            yield self._node()
        self._loader.get_event()

    def _alias(self, event: Any) -> _Node:
        if event.anchor not in self._known:
            raise ValueError(f"line {event.start_mark.line + 1}: unknown anchor")
        node = self._known[event.anchor]
        if node is None:
            raise ValueError("an anchor's value contains itself")
        self._aliased += node.weight
        if self._aliased > _MOST_ALIASED:
            raise ValueError("document contains excessive aliasing")
        return node._replace(items=None)  # a list by its name cannot be merged

    def _mapping(self) -> _Node:
        found: dict[str, Any] = {}
        weight = 1
        while not self._loader.check_event(yaml.MappingEndEvent):
            if self._merges():
                self._loader.get_event()
                node = self._node()
                _merge(found, node)
            else:
                key = self._key()
                node = self._node()
                found[key] = node.value
            weight += node.weight
        self._loader.get_event()
        return _Node(found, weight, is_map=True)

    def _merges(self) -> bool:
        event = self._loader.peek_event()
        if not isinstance(event, yaml.ScalarEvent) or event.value != "<<":
            return False
        return event.implicit[0] or event.tag == f"{_TAG}merge"

    def _key(self) -> str:
        event = self._loader.peek_event()
        if isinstance(event, yaml.ScalarEvent):
            self._loader.get_event()
            node = _Node(_scalar(event, is_text=self._is_text(event))[1], 1)
            if event.anchor:
                self._known[event.anchor] = node
        else:
            node = self._node()
        return _key(node.value)

    def _is_text(self, event: Any) -> bool:
        """Whether a scalar is none but text: in quotes, or with the tag `!`."""
        if event.tag is not None:
            return False
        if not event.implicit[0]:
            return True
        at = event.start_mark.index
        return bool(self._text) and self._text[at : at + 2] == "! "


def _merge(into: dict[str, Any], node: _Node) -> None:
    maps = (node,) if node.items is None else node.items
    if not all(each.is_map for each in maps):
        raise ValueError("map merge requires map or sequence of maps as the value")
    for each in reversed(maps):
        into.update(each.value)


def _scalar(event: Any, *, is_text: bool) -> tuple[str, Any]:
    """Return the tag in short, and the value. Raise ValueError."""
    if is_text:
        return "str", event.value
    tag = (event.tag or "").removeprefix(_TAG)
    if tag == "binary":
        try:
            text = event.value.replace("\n", "").replace("\r", "")
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("!!binary value contains invalid base64 data") from None
        return tag, content.decode("utf-8", "replace")
    if tag not in _RESOLVED:
        return tag, event.value
    if tag == "str":
        return tag, event.value
    found, value = resolve(event.value)
    if tag == "timestamp" and _TIME.fullmatch(event.value):
        return tag, event.value
    if tag == "float" and found == "int":
        return tag, float(value)
    if tag not in ("", found):
        raise ValueError(f"cannot decode !!{found} as a !!{tag}")
    return found, value


def resolve(text: str) -> tuple[str, Any]:
    """Return what a plain scalar is: a tag in short, and its value."""
    if text in _WORDS:
        return _WORDS[text]
    if not text or text[0] not in "+-.0123456789":
        return "str", text
    plain = text if text[0] == "." else text.replace("_", "")
    number = _INT.fullmatch(plain)
    if number is not None and (value := _integer(number)) is not None:
        return "int", value
    if _FLOAT.fullmatch(plain) and math.isfinite(real := float(plain)):
        return "float", real
    return "str", text


def _integer(found: re.Match[str]) -> int | None:
    """Return a number of 64 bits; None = it has more."""
    sign, *digits = found.groups()
    bases = (16, 8, 2, 10)
    value = next(int(d, base) for d, base in zip(digits, bases, strict=True) if d)
    if sign == "-":
        value = -value
    most = (1 << 63) if sign else (1 << 64)  # ParseUint takes no sign
    return value if -(1 << 63) <= value < most else None


def _key(value: object) -> str:
    """Write a key as JSON's. Raise ValueError for what cannot be one."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value < 1 << 63:
        return str(value)
    if isinstance(value, float):
        return _short(value)
    raise ValueError("unsupported map key")


def _short(value: float) -> str:
    """Write a number with as few digits as 32 bits need, as Go's 'g' does."""
    if math.isnan(value):
        return ".nan"
    try:
        narrow = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        narrow = math.inf
    if math.isinf(value) or math.isinf(narrow):
        return ".inf" if value > 0 else "-.inf"
    for digits in range(9):
        text = f"{narrow:.{digits}e}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == narrow:
            break
    exponent = int(text.partition("e")[2])
    if narrow and not -4 <= exponent < 6:
        return text
    return f"{narrow:.{max(0, digits - exponent)}f}"


def _finite(value: Any) -> Any:
    """Return a value as JSON has it. Raise ValueError for what it cannot say."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("unsupported value")
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value
