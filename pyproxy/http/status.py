"""What an apiserver answers when it refuses: a Status, as JSON or as YAML, to the byte.

Source: apiserver, endpoints/handlers/responsewriters; tests/golden.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Literal

from pyproxy.dataplane import Failure, Reply

Form = Literal["json", "yaml", "indented"]
Pairs = tuple[tuple[str, str], ...]

# On everything that an apiserver answers.
NOT_CACHED = ("Cache-Control", "no-cache, private")
RETRY_SOON: Pairs = (("Retry-After", "1"),)
_NOSNIFF = ("X-Content-Type-Options", "nosniff")
_TYPES: dict[Form, str] = {
    "json": "application/json",
    "yaml": "application/yaml",
    "indented": "application/json",
}
_FORMS: dict[str, Form] = {
    "application/json": "json",
    "application/yaml": "yaml",
    "application/*": "json",
    "*/*": "json",
    # We do not write protobuf; a client that reads it reads JSON, too.
    "application/vnd.kubernetes.protobuf": "json",
}
# As Go's encoding/json writes them: no tag of HTML can begin in a message.
_ESCAPES = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


def form_of(accept: str) -> Form:
    """Return how a client wants a Status written; what it does not read, indented.

    `accept` is the value of Accept, "" = there is none.
    """
    if not accept.strip():
        return "json"
    for _, name in sorted(_ranges(accept), key=lambda each: -each[0]):
        if name in _FORMS:
            return _FORMS[name]
    return "indented"


def _ranges(accept: str) -> Iterator[tuple[float, str]]:
    for each in accept.split(","):
        name, *params = (word.strip().lower() for word in each.split(";"))
        weight = 1.0
        for param in params:
            if param.startswith("q="):
                try:
                    weight = float(param[2:])
                except ValueError:
                    weight = 0.0
        if weight > 0:
            yield weight, name


def status(
    code: int,
    reason: str,
    message: str,
    details: Mapping[str, object] | None = None,
    *,
    form: Form = "json",
    nosniff: bool = False,
) -> Reply:
    """Return a Status. No `reason` and no `details`: it has no such fields."""
    made: dict[str, object] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
    }
    if reason:
        made["reason"] = reason
    if details is not None:
        made["details"] = dict(details)
    made["code"] = code
    headers: Pairs = (("Content-Type", _TYPES[form]), NOT_CACHED)
    if nosniff:
        headers += (_NOSNIFF,)
    return Reply(code, _written(made, form).encode(), headers)


def failure(
    code: int,
    reason: str,
    before: str,
    *,
    details: Mapping[str, object] | None = None,
    more: Pairs = (),
) -> Failure:
    """Return a Status for what the core says itself: its reason behind `before`.

    `more` are headers that it has besides.
    """
    reply = status(code, reason, f"{before}\0", details)
    # A zero is nowhere else in it.
    head, _, tail = reply.body.decode().partition("\\u0000")
    return Failure(code, (*reply.headers, *more), head, tail)


def _written(made: dict[str, object], form: Form) -> str:
    if form == "yaml":
        import yaml

        return yaml.safe_dump(made, allow_unicode=True, width=1 << 20)
    if form == "indented":
        return json.dumps(made, ensure_ascii=False, indent=2).translate(_ESCAPES)
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ESCAPES) + "\n"
