"""A JSON Schema of a configuration, for editors and for pipelines.

It knows types, bounds and names. What depends on two fields at once, or on this
machine, only `pyproxy check` knows.
"""

from typing import Any

import msgspec

from pyproxy.config.complaints import alternatives
from pyproxy.config.describe import REQUIRED, Field, fields_of, structs_in, summary
from pyproxy.config.duration import Seconds

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"

Schema = dict[str, Any]


def schema_of(struct: type, title: str) -> Schema:
    """Return the schema of documents that `convert` makes a `struct` of."""
    definitions = {each.__name__: _object(each) for each in structs_in(struct)}
    return {
        "$schema": DIALECT,
        "title": title,
        **definitions.pop(struct.__name__),
        "$defs": definitions,
    }


def _object(struct: type) -> Schema:
    fields = fields_of(struct)
    found: Schema = {
        "description": summary(struct),
        "type": "object",
        "properties": {field.name: _property(field) for field in fields},
        "required": [field.name for field in fields if field.default is REQUIRED],
        "additionalProperties": False,
    }
    if getattr(struct, "short_form", ""):
        found = {"anyOf": [{"type": "string"}, found]}
    return found


def _property(field: Field) -> Schema:
    found: Schema = {"description": field.text} if field.text else {}
    if field.struct is not None:
        reference = {"$ref": f"#/$defs/{field.struct.__name__}"}
        listed = {"type": "array", "items": reference}
        found |= listed if field.is_list else reference
    else:
        found |= msgspec.json.schema(field.kind, schema_hook=_custom)
    if field.default is not REQUIRED and (field.struct is None or field.is_list):
        found["default"] = field.default
    return found


def _custom(kind: type) -> Schema:
    (real,) = alternatives(kind)
    assert issubclass(real, Seconds)
    pattern = rf"^{real.sign}(0|({_PART})+)$"
    text = {"type": "string", "pattern": pattern}
    number: Schema = {"type": "number"}
    if not real.sign:
        number["minimum" if real.zero_allowed else "exclusiveMinimum"] = 0
    return {"anyOf": [text, number]}
