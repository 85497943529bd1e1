"""Objects as rows of a Table: what `kubectl get` prints."""

from collections.abc import Callable, Sequence
from typing import Any

from pyproxy.sandbox.apiserver.kinds import Resource
from pyproxy.sandbox.apiserver.media import age, partial
from pyproxy.sandbox.apiserver.schema import Object

Row = list[Any]
NONE = "<none>"


def table(
    resource: Resource, found: Sequence[Object], metadata: Object, include: str = ""
) -> Object:
    """Return the Table of some objects."""
    columns, cells = _TABLES.get(resource.plural, _DEFAULT)
    head: Object = {"kind": "Table", "apiVersion": "meta.k8s.io/v1"}
    head |= {"metadata": metadata, "columnDefinitions": [_column(c) for c in columns]}
    return head | {"rows": [_row(item, cells, include) for item in found]}


def _column(text: str) -> Object:
    """From `Name`, `Restarts` or, when only -o wide shows it, `+Node`."""
    wide, text = text.startswith("+"), text.removeprefix("+")
    name, _, kind = text.partition(":")
    made: Object = {"name": name, "type": kind or "string"}
    made["format"] = "name" if name == "Name" else ""
    return made | {"description": "", "priority": int(wide)}


def _row(item: Object, cells: Callable[[Object], Row], include: str) -> Object:
    row: Object = {"cells": cells(item)}
    shown = item if include == "Object" else partial(item)
    return row | {"object": None if include == "None" else shown}


def _age(item: Object) -> str:
    return age(item["metadata"].get("creationTimestamp"))


def _name(item: Object) -> str:
    name: str = item["metadata"].get("name", "")
    return name


def _joined(words: Sequence[str]) -> str:
    return ",".join(words) or NONE


def _few(words: Sequence[str], most: int = 3) -> str:
    """The first of many."""
    shown = ",".join(words[:most])
    return f"{shown} + {len(words) - most} more..." if len(words) > most else shown


def _labels(labels: Object | None) -> str:
    return _joined([f"{key}={value}" for key, value in sorted((labels or {}).items())])


def _pod(item: Object) -> Row:
    spec, status = item["spec"], item["status"]
    states = status.get("containerStatuses", [])
    ready = sum(bool(state.get("ready")) for state in states)
    phase = status.get("reason") or status.get("phase", "Unknown")
    for state in states:
        waiting = (
            state["state"].get("waiting") or state["state"].get("terminated") or {}
        )
        phase = waiting.get("reason") or phase
    if "deletionTimestamp" in item["metadata"]:
        phase = "Terminating"
    restarts = sum(state.get("restartCount", 0) for state in states)
    return [
        _name(item),
        f"{ready}/{len(spec['containers'])}",
        phase,
        str(restarts),
        _age(item),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        NONE,
    ]


def _service(item: Object) -> Row:
    spec, ingress = item["spec"], item["status"]["loadBalancer"].get("ingress", [])
    external = list(spec.get("externalIPs", []))
    shown = _joined(external)
    if spec["type"] == "LoadBalancer":
        external += [entry.get("ip") or entry.get("hostname", "") for entry in ingress]
        shown = ",".join(external) or "<pending>"
    elif spec["type"] == "ExternalName":
        shown = spec["externalName"]
    ports = [
        f"{port['port']}{':' + str(port['nodePort']) if port.get('nodePort') else ''}"
        f"/{port['protocol']}"
        for port in spec.get("ports", [])
    ]
    address = spec.get("clusterIP") or NONE
    tail = [_joined(ports), _age(item), _labels(spec.get("selector"))]
    return [_name(item), spec["type"], address, shown, *tail]


def _slice(item: Object) -> Row:
    ports = [str(p.get("port", "")) or "*" for p in item["ports"] or []]
    addresses = [
        text for endpoint in item["endpoints"] or [] for text in endpoint["addresses"]
    ]
    shown_ports = _few(ports) or "<unset>"
    shown = _few(addresses) or "<unset>"
    return [_name(item), item["addressType"], shown_ports, shown, _age(item)]


def _endpoints(item: Object) -> Row:
    found = [
        f"{address['ip']}:{port['port']}"
        for subset in item.get("subsets", [])
        for port in subset.get("ports", [])
        for address in subset.get("addresses", [])
    ]
    return [_name(item), _few(found) or NONE, _age(item)]


def _node(item: Object) -> Row:
    status, info = item["status"], item["status"]["nodeInfo"]
    states = {c["type"]: c["status"] for c in status.get("conditions", [])}
    words = {"True": "Ready", "False": "NotReady"}
    shown = words.get(states.get("Ready", ""), "Unknown")
    if item["spec"].get("unschedulable"):
        shown += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    labels = item["metadata"].get("labels", {})
    roles = [
        key.removeprefix(prefix) for key in sorted(labels) if key.startswith(prefix)
    ]
    addresses = {a["type"]: a["address"] for a in status.get("addresses", [])}
    return [
        *(_name(item), shown, _joined(roles), _age(item), info["kubeletVersion"]),
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        *(info[key] or "<unknown>" for key in ("osImage", "kernelVersion")),
        info["containerRuntimeVersion"] or "<unknown>",
    ]


def _event(item: Object) -> Row:
    about, source = item["involvedObject"], item["source"]
    first = item.get("firstTimestamp") or item.get("eventTime")
    last = item.get("lastTimestamp") or first
    name = about.get("name", "")
    count = int(item.get("count", 1))
    return [
        *(age(last), item.get("type", ""), item.get("reason", "")),
        f"{about.get('kind', '').lower()}/{name}",
        about.get("fieldPath", ""),
        ", ".join(filter(None, (source.get("component"), source.get("host")))),
        item.get("message", "").strip(),
        *(age(first), count, _name(item)),
    ]


def _config(item: Object) -> Row:
    count = len(item.get("data", {})) + len(item.get("binaryData", {}))
    return [_name(item), count, _age(item)]


def _secret(item: Object) -> Row:
    return [_name(item), item.get("type", ""), len(item.get("data", {})), _age(item)]


def _binding(item: Object) -> Row:
    role, subjects = item["roleRef"], item.get("subjects", [])
    by_kind: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in subjects:
        space = f"{subject['namespace']}/" if subject.get("namespace") else ""
        by_kind.setdefault(subject["kind"], []).append(f"{space}{subject['name']}")
    shown = [", ".join(names) for names in by_kind.values()]
    return [_name(item), f"{role['kind']}/{role['name']}", _age(item), *shown[:3]]


_BINDING = ["Name", "Role", "Age", "+Users", "+Groups", "+ServiceAccounts"]
_DEFAULT: tuple[list[str], Callable[[Object], Row]] = (
    ["Name", "Created At:date"],
    lambda item: [_name(item), item["metadata"].get("creationTimestamp", "")],
)
_TABLES: dict[str, tuple[list[str], Callable[[Object], Row]]] = {
    "clusterrolebindings": (_BINDING, _binding),
    "configmaps": (["Name", "Data", "Age"], _config),
    "endpoints": (["Name", "Endpoints", "Age"], _endpoints),
    "endpointslices": (["Name", "AddressType", "Ports", "Endpoints", "Age"], _slice),
    "events": (
        [
            *("Last Seen", "Type", "Reason", "Object", "+Subobject", "+Source"),
            *("Message", "+First Seen", "+Count", "+Name"),
        ],
        _event,
    ),
    "leases": (
        ["Name", "Holder", "Age"],
        lambda item: [_name(item), item["spec"].get("holderIdentity", ""), _age(item)],
    ),
    "namespaces": (
        ["Name", "Status", "Age"],
        lambda item: [_name(item), item["status"].get("phase", ""), _age(item)],
    ),
    "nodes": (
        [
            *("Name", "Status", "Roles", "Age", "Version", "+Internal-IP"),
            *("+External-IP", "+OS-Image", "+Kernel-Version", "+Container-Runtime"),
        ],
        _node,
    ),
    "pods": (
        [
            *("Name", "Ready", "Status", "Restarts", "Age", "+IP", "+Node"),
            *("+Nominated Node", "+Readiness Gates"),
        ],
        _pod,
    ),
    "rolebindings": (_BINDING, _binding),
    "secrets": (["Name", "Type", "Data", "Age"], _secret),
    "serviceaccounts": (
        ["Name", "Age"],
        lambda item: [_name(item), _age(item)],
    ),
    "services": (
        [
            *("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"),
            "+Selector",
        ],
        _service,
    ),
}
