"""How answers are written: which representation a client accepts, and its bytes."""

import datetime
import json
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import yaml

from pyproxy.sandbox.apiserver import protobuf
from pyproxy.sandbox.apiserver.refusal import (
    bad_request,
    not_acceptable,
    unknown_media,
)
from pyproxy.sandbox.apiserver.schema import Object

JSON = "application/json"
YAML = "application/yaml"
Shape = Literal["", "Table", "PartialObjectMetadata", "APIGroupDiscoveryList"]
_SHAPES: dict[str, Shape] = {
    "Table": "Table",
    "PartialObjectMetadata": "PartialObjectMetadata",
    "PartialObjectMetadataList": "PartialObjectMetadata",
    "APIGroupDiscoveryList": "APIGroupDiscoveryList",
}
_ANY = ("*/*", "application/*")


@dataclass(frozen=True, slots=True)
class Format:
    """What a client gets."""

    media: str = JSON
    shape: Shape = ""


def accepted(header: str, shapes: tuple[Shape, ...] = ()) -> Format:
    """Choose the first representation in an Accept header that is served.

    Raises:
        Refusal: none is.
    """
    for part in header.split(",") if header.strip() else ["*/*"]:
        media, *parameters = (word.strip() for word in part.split(";"))
        named = dict(word.partition("=")[::2] for word in parameters)
        if media not in (JSON, YAML, *_ANY):
            continue
        wanted = named.get("as", "")
        shape = _SHAPES.get(wanted, "")
        if wanted and (shape not in shapes or not _is_served(shape, named)):
            continue
        return Format(YAML if media == YAML else JSON, shape)
    raise not_acceptable()


def _is_served(shape: Shape, named: dict[str, str]) -> bool:
    if shape == "APIGroupDiscoveryList":
        return (named.get("g"), named.get("v")) == ("apidiscovery.k8s.io", "v2")
    return (named.get("g"), named.get("v")) == ("meta.k8s.io", "v1")


def encoded(answer: Any, media: str = JSON) -> bytes:
    """Return the bytes, as Go's encoders write them."""
    if media == YAML:
        return yaml.dump(
            answer, Dumper=_GoDumper, default_flow_style=False, width=1 << 30
        ).encode()
    text = msgspec.json.encode(answer)
    for sign, escape in ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026")):
        if sign in text:
            text = text.replace(sign, escape)
    return text + b"\n"


class _GoDumper(yaml.SafeDumper):
    """Double quotes where PyYAML uses single ones, and no anchors."""

    def choose_scalar_style(self) -> str:
        style: str = super().choose_scalar_style()
        return '"' if style == "'" else style

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a time is a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in found if not tag.endswith(":timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def decoded(body: bytes, media: str, kind: str) -> Any:
    """Read a request's body: an object of this kind, or a patch if that is "".

    Raises:
        Refusal: another format, or not of that format.
    """
    media = media.partition(";")[0].strip().lower()
    if media == protobuf.MEDIA:
        return protobuf.read(body)
    if media.endswith("yaml"):
        try:
            return yaml.load(body, Loader=_Loader)
        except yaml.YAMLError as error:
            raise bad_request(f"error decoding YAML: {error}") from error
    if media not in ("", JSON) and not media.endswith("+json"):
        raise unknown_media()
    try:
        return json.loads(body)
    except ValueError as error:
        text = body.decode("utf-8", "replace")
        if not kind:
            raise bad_request(f"error decoding patch: {_go_error(text)}") from error
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't"
            f" get version/kind; json parse error: {_go_error(text)} ({text})"
        ) from error


def _go_error(text: str) -> str:
    """What Go's parser says where Python's stops; its usual cases."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos >= len(text):
            return "unexpected end of JSON input"
        where = "looking for beginning of value"
        if "property name" in error.msg:
            where = "looking for beginning of object key string"
        return f"invalid character '{text[error.pos]}' {where}"
    return ""


def age(moment: str | None) -> str:
    """How long ago, in the short form of tables."""
    if not moment:
        return "<unknown>"
    then = datetime.datetime.fromisoformat(moment)
    passed = datetime.datetime.now(datetime.UTC) - then
    return duration(max(0, int(passed.total_seconds())))


def duration(seconds: int) -> str:
    """Seconds in words of one or two units; two only while the first is small."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    if days < 8 * 365:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(first: int, unit: str, second: int, small: str) -> str:
    return f"{first}{unit}{second}{small}" if second else f"{first}{unit}"


def partial(found: Object) -> Object:
    """The metadata of an object, as an object."""
    head: Object = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return head | {"metadata": found["metadata"]}
