"""Requests in protobuf, which kubectl sends for kinds that it knows; answers are JSON.

*Source:* protobuf's encoding, and the envelope of k8s.io/apimachinery's serializer.
"""

import base64
import datetime
from collections.abc import Iterator
from typing import Any

from pyproxy.sandbox.apiserver.refusal import bad_request
from pyproxy.sandbox.apiserver.schema import Object, Type, kind_type, structs

MEDIA = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Part = tuple[int, int | bytes]  # the number of a field, and what it holds


def read(body: bytes) -> Object:
    """Return the object in a request's body.

    Raises:
        Refusal: that is none, or of a kind that nobody knows here.
    """
    if not body.startswith(_MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message")
    try:
        envelope = dict(_parts(body[len(_MAGIC) :]))
        head = dict(_parts(_bytes(envelope.get(1, b""))))
        version, kind = (_bytes(head.get(n, b"")).decode() for n in (1, 2))
        if kind not in structs():
            raise bad_request(f'no kind "{kind}" is registered for version "{version}"')
        found: Object = _message(_bytes(envelope.get(2, b"")), kind_type(kind))
    except (IndexError, ValueError, UnicodeDecodeError, TypeError) as error:
        raise bad_request(f"proto: {error}") from error
    return {"kind": kind, "apiVersion": version, **found}


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("wrong wireType")
    return value


def _parts(data: bytes) -> Iterator[Part]:
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == _BYTES:
            size, place = _varint(data, place)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"illegal wireType {wire}")
        if place + size > len(data):
            raise ValueError("unexpected EOF")
        yield number, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def _message(data: bytes, kind: Type) -> Object:
    fields = {f.number: (name, f.type) for name, f in kind.struct.fields.items()}
    made: Object = {}
    for number, value in _parts(data):
        name, inner = fields.get(number, ("", kind))
        if not name or not number:
            continue
        if inner.kind == "list":
            made.setdefault(name, []).append(_value(value, inner.items))
        elif inner.kind == "map":
            entry = dict(_parts(_bytes(value)))
            key = _bytes(entry.get(1, b"")).decode()
            assert inner.item is not None
            made.setdefault(name, {})[key] = _value(entry.get(2, b""), inner.item)
        else:
            made[name] = _value(value, inner)
    return made


def _value(value: int | bytes, kind: Type) -> Any:
    if kind.kind == "struct":
        return _message(_bytes(value), kind)
    if kind.kind == "list":  # inside a map: a message of its own
        return [_value(part, kind.items) for _, part in _parts(_bytes(value))]
    if kind.name == "bool":
        return bool(value)
    if kind.name == "int":
        assert isinstance(value, int)
        return value - (1 << 64) if value >> 63 else value
    data = _bytes(value)
    if kind.name == "bytes":
        return base64.b64encode(data).decode()
    if kind.name in ("time", "microtime"):
        return _time(dict(_parts(data)), kind.name)
    if kind.name == "quantity":
        return _bytes(dict(_parts(data)).get(1, b"")).decode()
    if kind.name == "intstr":
        found = dict(_parts(data))
        is_text = bool(found.get(1, 0))
        return _bytes(found.get(3, b"")).decode() if is_text else found.get(2, 0)
    return data.decode() if kind.name == "string" else None


def _time(found: dict[int, int | bytes], name: str) -> str | None:
    seconds, nanos = found.get(1, 0), found.get(2, 0)
    assert isinstance(seconds, int)
    assert isinstance(nanos, int)
    if seconds >> 63:  # Go's zero time, long before the epoch
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    tail = f".{nanos // 1000:06d}Z" if name == "microtime" else "Z"
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + tail
