"""A file to start from: what must be there, and every default as a comment.

Without the first character of a line such as `#workers: null` it means what it meant
before; after that it can be changed.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from pyproxy.config.describe import REQUIRED, Field, fields_of, summary

STEP = "  "


def example_of(struct: type, given: dict[str, Any], heading: list[str]) -> str:
    """Return a YAML document in which `given` is said and the rest is the default."""
    lines = [*heading, "", f"# {summary(struct)}", *_mapping(struct, given, "", "")]
    return "\n".join([*(line.rstrip() for line in lines), ""])


def to_line(value: object) -> str:
    """Return a value as it stands behind a colon."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _mapping(
    struct: type, given: dict[str, Any] | None, mark: str, indent: str
) -> Iterator[str]:
    """Yield the lines of a mapping; `mark` is `#` where it is a default as a whole."""
    for field in fields_of(struct):
        if given is not None and field.name in given:
            yield from _said(field, given[field.name], indent)
        elif field.default is not REQUIRED:
            yield from _default(field, indent, "")


def _said(field: Field, value: Any, indent: str) -> Iterator[str]:
    note = f"  # {field.text}" if field.text else ""
    inner = indent + STEP
    if field.struct is None:
        yield f"{indent}{field.name}: {to_line(value)}{note}"
    elif not field.is_list:
        yield f"{indent}{field.name}:{note}"
        yield from _mapping(field.struct, value, "", inner)
    else:
        yield f"{indent}{field.name}:{note}"
        for each in value:
            if not isinstance(each, dict):
                yield f"{inner}- {to_line(each)}"
                continue
            first, *rest = _mapping(field.struct, each, "", inner + STEP)
            # What stands first must be said: a dash belongs to it.
            yield f"{inner}- {first.lstrip()}"
            yield from rest


def _default(field: Field, indent: str, below: str) -> Iterator[str]:
    """Yield a default as a comment; `below` is its indentation in the comment."""
    note = f"  # {field.text}" if field.text else ""
    if field.struct is None or field.is_list:
        shown = to_line(field.default)
        yield f"{indent}#{below}{field.name}: {shown}{note}"
        return
    yield f"{indent}#{below}{field.name}:{note}"
    for each in fields_of(field.struct):
        yield from _default(each, indent, below + STEP)
