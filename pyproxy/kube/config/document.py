"""YAML or JSON to plain data, read as kubectl reads it.

PyYAML speaks YAML 1.1 to the letter: a context named 12:30 would be the number 750 and
one named 2024-01-31 a date. kubectl's parser takes both for text, so do we. Beyond
that: null is the same as absent, and of several documents in a file the first counts.
"""

import re
from typing import Any

import msgspec
import yaml

_SafeLoader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_BOOLEANS = ("yes", "no", "true", "false", "on", "off")
# Tags that kubectl's parser resolves, with its patterns.
_RESOLVED = (
    (
        "bool",
        r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
    ),
    ("null", r"~|null|Null|NULL|"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+)"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"),
    ("merge", r"<<"),
)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """A safe loader without clocks and calendars."""

    yaml_implicit_resolvers: dict[str | None, list[object]] = {}  # noqa: RUF012


for _tag, _pattern in _RESOLVED:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), None
    )


def parse(raw: bytes) -> dict[str, Any]:
    """Return the mapping in `raw`. Raise ValueError saying why there is none."""
    value = _read(raw)
    if value is None:
        return {}
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else type(value).__name__
        raise ValueError(f"expected a mapping, got {kind}")
    return value


def _read(raw: bytes) -> object:
    if raw.lstrip()[:1] == b"{":
        try:
            return _without_nulls(msgspec.json.decode(raw))
        except (msgspec.DecodeError, RecursionError):
            pass  # YAML in flow style, perhaps
    loader = None
    try:
        loader = _Loader(raw)
        return _without_nulls(loader.get_data()) if loader.check_data() else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}: " if mark else ""
        # Nothing of the file itself: a password may begin with `*` or `!`.
        problem = re.sub("'([^']*)'", _veil, str(error.problem))
        raise ValueError(f"yaml: {place}{problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"yaml: not readable ({type(error).__name__})") from None
    finally:
        if loader is not None:
            loader.dispose()


def _veil(quoted: re.Match[str]) -> str:
    return quoted[0] if len(quoted[1]) == 1 else "'…'"  # a bracket may be shown


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        items = value.items()
        return {str(k): _without_nulls(v) for k, v in items if v is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value
