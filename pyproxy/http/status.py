"""What an apiserver answers when it refuses: a Status, in any form, to the byte.

Source: apiserver, endpoints/handlers/responsewriters; tests/golden.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Literal

from pyproxy.dataplane import Failure, Reply

Form = Literal["json", "yaml", "protobuf", "indented"]
Pairs = tuple[tuple[str, str], ...]

# On everything that an apiserver answers.
NOT_CACHED = ("Cache-Control", "no-cache, private")
RETRY_SOON: Pairs = (("Retry-After", "1"),)
_NOSNIFF = ("X-Content-Type-Options", "nosniff")
_TYPES: dict[Form, str] = {
    "json": "application/json",
    "yaml": "application/yaml",
    "protobuf": "application/vnd.kubernetes.protobuf",
    "indented": "application/json",
}
_FORMS: dict[str, Form] = {
    "application/json": "json",
    "application/yaml": "yaml",
    "application/*": "json",
    "*/*": "json",
    "application/vnd.kubernetes.protobuf": "protobuf",
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


def is_shown(agent: str) -> bool:
    """Whether a program shows what it gets to people, who like JSON indented.

    Source: apiserver, negotiation.isPrettyPrint. We do not read `?pretty=`.
    """
    return agent.startswith(("curl", "Wget", "Mozilla/5.0"))


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
    return Reply(code, _written(made, form), headers)


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


def _written(made: dict[str, object], form: Form) -> bytes:
    if form == "protobuf":
        return _protobuf(made)
    if form == "yaml":
        import yaml

        return yaml.safe_dump(made, allow_unicode=True).encode()
    if form == "indented":
        text = json.dumps(made, ensure_ascii=False, indent=2)
        return text.translate(_ESCAPES).encode()
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    return f"{text.translate(_ESCAPES)}\n".encode()


def _protobuf(made: dict[str, object]) -> bytes:
    """Return a Status in the envelope of apimachinery; empty fields are written, too.

    Source: apimachinery, runtime/serializer/protobuf, runtime.Unknown and meta.v1.
    """
    said = made.get("details")
    details = b""
    if isinstance(said, dict):
        names = (said.get(name, "") for name in ("name", "group", "kind"))
        texts = b"".join(_field(n, text) for n, text in enumerate(names, 1))
        details = _field(5, texts + b"\x28\0" + _field(6, ""))  # no seconds, no uid
    status = (
        _field(1, _field(1, "") + _field(2, "") + _field(3, "")),  # links, version
        _field(2, made["status"]),
        _field(3, made["message"]),
        _field(4, made.get("reason", "")),
        details,
        b"\x30" + _varint(int(str(made["code"]))),
    )
    kind = _field(1, _field(1, "v1") + _field(2, "Status"))
    return b"k8s\0" + kind + _field(2, b"".join(status)) + _field(3, "") + _field(4, "")


def _field(number: int, value: object) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode()
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
