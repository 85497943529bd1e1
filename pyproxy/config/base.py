"""From a document to a typed configuration, and what is wrong with it and where.

A document is read once, overlaid with flags as plain data, and converted strictly:
unknown fields, wrong types and impossible combinations are all `ConfigError`s that
carry the JSON path of the place.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec

from pyproxy.config.complaints import complaints_about, expanded, placed
from pyproxy.config.duration import Seconds, format_duration
from pyproxy.errors import ConfigError

MAX_FILE_BYTES = 16 << 20  # a wrong file name must not fill the memory

_SECRETS = ("token", "password", "proxyUrl")
_MASK = "***"
# Of a URL, a scheme being optional: user and password, which may hold anything.
_USER = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)?.*@", re.DOTALL)


class Config(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    rename="camel",
):
    """Base of everything that can stand in a configuration file."""

    # The field that a text alone stands for, where a mapping is expected.
    short_form: ClassVar[str] = ""


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
        kind = "a list" if isinstance(document, list) else type(document).__name__
        raise ConfigError(f"{path}: $: expected a mapping, got {kind}")
    return document


def convert(document: Mapping[str, object], kind: type[C]) -> C:
    """Turn plain data into `kind`. Raise ConfigError with all that is wrong, and where.

    Short forms are expanded first: see `expanded`.
    """
    document = expanded(document, kind)
    complaints = list(complaints_about(document, kind, _decode))
    if complaints:
        raise ConfigError(complaints)
    try:
        return msgspec.convert(document, kind, strict=True, dec_hook=_decode)
    except msgspec.ValidationError as error:  # never, if the walk is as strict
        raise ConfigError(placed(str(error), "$")) from error


def effective(config: Config) -> dict[str, object]:
    """Every field with its value as plain data, ready for YAML or JSON."""
    plain = msgspec.to_builtins(config, enc_hook=encode)
    return json.loads(json.dumps(plain))  # type: ignore[no-any-return]  # no tuples left


def masked(config: Config) -> dict[str, object]:
    """As `effective`, without secrets of the client flags."""
    plain = effective(config)
    client = plain.get("client")
    if isinstance(client, dict):
        said = {name: _MASK for name in _SECRETS if client.get(name)}
        if "server" in client:
            said["server"] = _USER.sub(r"\1…@", client["server"])
        plain["client"] = {**client, **said}
    return plain


def to_yaml(settings: dict[str, object]) -> str:
    """What `effective` returned as text, in the order of the declaration."""
    import yaml

    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _decode(kind: type, value: object) -> object:
    if issubclass(kind, Seconds):
        return kind.parse(value)
    raise NotImplementedError(kind)


def encode(value: object) -> object:
    """Return a value of ours as a file spells it; for msgspec."""
    if isinstance(value, Seconds):
        return format_duration(value)
    raise NotImplementedError(type(value))
