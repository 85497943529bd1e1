"""What the agent does, as plain data for people: the table, and one Service of it."""

import time

from pyproxy.admin import Page
from pyproxy.dataplane import Dataplane, VipStats
from pyproxy.model import VipKey, format_address
from pyproxy.modes.kube_proxy.config import MODE
from pyproxy.modes.kube_proxy.programmer import Programmer
from pyproxy.modes.kube_proxy.shortcuts import NAME as DIRECT

MOST_VIPS = 1000  # of a page; a cluster may have 100,000


def describe(dataplane: Dataplane, programmer: Programmer | None) -> dict[str, object]:
    """Return the table in force, up to a bound: `explain` knows each Service."""
    keys = list(programmer.vips) if programmer is not None else []
    stats = dataplane.stats(keys[:MOST_VIPS])
    return {
        "mode": MODE,
        "time": round(time.time(), 3),
        "generation": stats.generation,
        "relaysActive": stats.relays_active,
        "workers": dataplane.workers,
        "capture": programmer.capture.name if programmer is not None else "",
        "vipsInAll": len(keys),
        "vips": [
            {**vip(key, stats.vips.get(key)), "pool": _owner(programmer, key)}
            for key in keys[:MOST_VIPS]
        ],
        "pools": [],
        "notServed": dict(programmer.failed) if programmer is not None else {},
    }


def _owner(programmer: Programmer | None, key: VipKey) -> str:
    return programmer.owner(key) if programmer is not None else ""


def vip(key: VipKey, counted: VipStats | None) -> dict[str, object]:
    """Return an address and what went through it."""
    entry: dict[str, object] = {
        "protocol": key[0],
        "address": format_address(*key[1:]),
        "limit": None,
    }
    if counted is not None:
        entry |= {
            "active": counted.active,
            "accepted": counted.accepted,
            "refused": {k: v for k, v in counted.refused.items() if v},
            "closed": {k: v for k, v in counted.closed.items() if v},
            "bytesUp": counted.bytes_up,
            "bytesDown": counted.bytes_down,
            "retries": counted.retries,
        }
    return entry


def path(key: VipKey, programmer: Programmer) -> dict[str, object]:
    """Return how bytes of an address go, and why not past us where that is asked."""
    said = programmer.shortcuts.path(key)
    is_direct = said == DIRECT
    return {
        "protocol": key[0],
        "address": format_address(*key[1:]),
        "path": said if is_direct else programmer.capture.name,
        "why": "" if is_direct else said,
    }


def explained(key: str, dataplane: Dataplane, programmer: Programmer) -> Page:
    """Return all there is to say of a Service, by `namespace/name`."""
    namespace, slash, name = key.partition("/")
    if not (namespace and slash and name) or "/" in name:
        return Page({"error": "say which: ?service=NAMESPACE/NAME"}, 400)
    found = programmer.table.explain(key)
    if found is None:
        return Page({"error": f"no Service {key} is known here"}, 404)
    keys = list(programmer.of(key))
    stats = dataplane.stats(keys)
    said: dict[str, object] = {"service": key, **found}
    if why := programmer.failed.get(key):
        said["notServed"] = why
    if programmer.trouble:
        said["rules"] = programmer.trouble
    said["capture"] = programmer.capture.name
    said["paths"] = [path(each, programmer) for each in keys]
    said["connections"] = [vip(each, stats.vips.get(each)) for each in keys]
    return Page(said)
