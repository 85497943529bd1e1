"""What a real cluster said, recorded in tests/golden, as a client reads it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyproxy.kube.objects import Object
from pyproxy.kube.resource import (
    ENDPOINT_SLICES,
    LEASES,
    NODES,
    PODS,
    SERVICE_CIDRS,
    SERVICES,
    Resource,
)

DIRECTORY = Path(__file__).parents[1] / "golden"
KINDS: dict[str, Resource[Any]] = {
    each.plural: each
    for each in (SERVICES, ENDPOINT_SLICES, NODES, SERVICE_CIDRS, LEASES, PODS)
}


def records(name: str) -> list[dict[str, Any]]:
    """Return the lines of a file."""
    text = (DIRECTORY / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def lists(kind: str) -> list[dict[str, Any]]:
    """Return the lists of a kind that a node's Service proxy saw."""
    found = records("services-and-slices")
    return [each["list"] for each in found if each["kind"] == kind and "list" in each]


def changes(kind: str) -> list[dict[str, Any]]:
    """Return the lines of its watch, in order."""
    found = records("services-and-slices")
    return [each["watch"] for each in found if each["kind"] == kind and "watch" in each]


def objects(kind: str) -> Iterator[dict[str, Any]]:
    """Yield every object of a kind in every version."""
    for each in lists(kind):
        yield from each["items"]
    for each in changes(kind):
        if each["type"] != "BOOKMARK":
            yield each["object"]


def outcome(kind: str) -> dict[str, Object]:
    """Return what is there in the end, by key."""
    there: dict[str, Object] = {}
    for each in lists(kind)[0]["items"]:
        made = KINDS[kind].decoder.decode(json.dumps(each))
        there[made.key] = made
    for change in changes(kind):
        if change["type"] == "BOOKMARK":
            continue
        made = KINDS[kind].decoder.decode(json.dumps(change["object"]))
        there.pop(made.key, None)
        if change["type"] != "DELETED":
            there[made.key] = made
    return there
