"""From a document to a typed configuration, and what is wrong with it and where.

A document is read once, overlaid with flags as plain data, and converted strictly:
unknown fields, wrong types and impossible combinations are all `ConfigError`s that
carry the JSON path of the place.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
import msgspec.inspect

from pyproxy.config.duration import Seconds, format_duration
from pyproxy.errors import ConfigError

MAX_FILE_BYTES = 16 << 20  # a wrong file name must not fill the memory


class Config(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="camel",
):
    """Base of everything that can stand in a configuration file."""


C = TypeVar("C", bound=Config)


def read_document(path: Path) -> dict[str, object]:
    """Return the mapping in a YAML or JSON file. Raise ConfigError naming the file."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB")
    import yaml

    from pyproxy.config.strict_yaml import StrictLoader

    try:
        document = yaml.load(raw, StrictLoader)  # a SafeLoader; reads JSON, too
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: {error.problem}") from error
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: $: expected a mapping, got {_kind(document)}")
    return document


def convert(document: Mapping[str, object], kind: type[C]) -> C:
    """Turn plain data into `kind`. Raise ConfigError saying where it is not one."""
    complaints = list(_complaints(document, msgspec.inspect.type_info(kind), "$"))
    if complaints:
        raise ConfigError(complaints)
    try:
        return msgspec.convert(document, kind, strict=True, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(_place_first(str(error))) from error


def effective(config: Config) -> dict[str, object]:
    """Every field with its value as plain data, ready for YAML or JSON."""
    plain = msgspec.to_builtins(config, enc_hook=_encode)
    return json.loads(json.dumps(plain))  # type: ignore[no-any-return]  # no tuples left


def to_yaml(settings: dict[str, object]) -> str:
    """What `effective` returned as text, in the order of the declaration."""
    import yaml

    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _decode(kind: type, value: object) -> object:
    if issubclass(kind, Seconds):
        return kind.parse(value)
    raise NotImplementedError(kind)


def _encode(value: object) -> object:
    if isinstance(value, Seconds):
        return format_duration(value)
    raise NotImplementedError(type(value))


def _place_first(message: str) -> str:
    """`Expected X - at `$.a`` -> `$.a: expected X`, as all our messages read."""
    text, _, place = message.rpartition(" - at ")
    place = place.strip("`") if text else "$"
    text = (text or message).replace("`array`", "a list").replace("`object`", "mapping")
    text = text.replace("`", "")
    if text.startswith("."):  # from one of our own checks, which knows the field
        return f"{place}{text}"
    return f"{place}: {text[:1].lower()}{text[1:]}"


def _complaints(value: object, kind: msgspec.inspect.Type, place: str) -> Iterator[str]:
    """What msgspec would name without its place, or without what would be right."""
    if isinstance(kind, msgspec.inspect.UnionType):
        for choice in kind.types:
            yield from _complaints(value, choice, place)
    elif isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _complaints(item, kind.item_type, f"{place}[{index}]")
    elif isinstance(kind, msgspec.inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in kind.fields}
        for name, item in value.items():
            if name in fields:
                yield from _complaints(item, fields[name], f"{place}.{name}")
            else:
                hint = _did_you_mean(name, list(fields))
                yield f"{place}.{name}: unknown field{hint}"
    elif isinstance(kind, msgspec.inspect.LiteralType) and value not in kind.values:
        choices = ", ".join(map(str, kind.values))
        yield f"{place}: {value!r} is none of {choices}"


def _did_you_mean(name: object, known: list[str]) -> str:
    lower = {field.lower(): field for field in known}
    close = difflib.get_close_matches(str(name).lower(), lower, n=1)
    return f", did you mean {lower[close[0]]}?" if close else ""


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else type(value).__name__
