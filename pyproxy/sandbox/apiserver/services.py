"""What the API server does to Services: defaults, addresses, ports, rules."""

import ipaddress
import random
from collections.abc import Iterator
from typing import Any

from pyproxy.sandbox.apiserver.kinds import resource
from pyproxy.sandbox.apiserver.refusal import Cause
from pyproxy.sandbox.apiserver.schema import Object
from pyproxy.sandbox.apiserver.store import Store

BLOCKS = {"IPv4": "10.96.0.0/16", "IPv6": "fd00:96::/112"}
POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
NODE_PORTS = range(30_000, 32_768)
AFFINITY_S = 10_800
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_EXTERNAL = ("NodePort", "LoadBalancer")  # reachable from outside of the cluster


def default(service: Object) -> None:
    """Fill in what a client may leave out."""
    spec = service["spec"]
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("type", "ClusterIP")
    for port in spec.get("ports", []):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port["port"])
    if spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {})
        config.setdefault("clientIP", {}).setdefault("timeoutSeconds", AFFINITY_S)
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] in _EXTERNAL:
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    for entry in service["status"]["loadBalancer"].get("ingress", []):
        if entry.get("ip"):
            entry.setdefault("ipMode", "VIP")


def prepare(service: Object, old: Object | None, store: Store) -> None:
    """Drop what a change of type leaves behind, then hand out what is missing."""
    spec = service["spec"]
    if old is not None:
        _keep_addresses(spec, old["spec"])
    if spec["type"] != "LoadBalancer":
        for name in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
            spec.pop(name, None)
        service["status"]["loadBalancer"] = {}
    if spec["type"] not in _EXTERNAL:
        spec.pop("externalTrafficPolicy", None)
        for port in spec.get("ports", []):
            port.pop("nodePort", None)
    if spec["type"] == "ExternalName":
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(name, None)
        return
    _choose_families(spec)
    _allocate_addresses(spec, store)
    _allocate_ports(spec, store)


def _keep_addresses(spec: Object, old: Object) -> None:
    """An update that says nothing about addresses keeps them."""
    for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if name in old:
            spec.setdefault(name, old[name])
    if spec["type"] in _EXTERNAL and "healthCheckNodePort" in old:
        spec.setdefault("healthCheckNodePort", old["healthCheckNodePort"])
    had = {_identity(p): p["nodePort"] for p in old.get("ports", []) if "nodePort" in p}
    for port in spec.get("ports", []):
        if _identity(port) in had:
            port.setdefault("nodePort", had[_identity(port)])


def _identity(port: Object) -> tuple[int, str]:
    return port["port"], port["protocol"]


def _choose_families(spec: Object) -> None:
    is_headless = spec.get("clusterIP") == "None"
    if is_headless and not spec.get("selector"):
        spec.setdefault("ipFamilyPolicy", "RequireDualStack")
    policy = spec.setdefault("ipFamilyPolicy", "SingleStack")
    families = spec.setdefault("ipFamilies", ["IPv4"])
    if policy != "SingleStack" and len(families) == 1:
        families.append("IPv6" if families[0] == "IPv4" else "IPv4")


def _allocate_addresses(spec: Object, store: Store) -> None:
    if spec.get("clusterIP") == "None":
        spec["clusterIPs"] = ["None"]
        return
    taken: set[str] = set(_taken(store, "clusterIPs"))
    had = spec.get("clusterIPs") or list(filter(None, [spec.get("clusterIP")]))
    for family in spec["ipFamilies"][len(had) :]:
        block = ipaddress.ip_network(BLOCKS[family])
        # The first 256 are left to Services that ask for an address by number.
        while (
            address := str(block[random.randrange(256, block.num_addresses)])
        ) in taken:
            continue
        had.append(address)
    spec["clusterIP"], spec["clusterIPs"] = had[0], had


def _allocate_ports(spec: Object, store: Store) -> None:
    taken = {port.get("nodePort") for port in _taken(store, "ports")}
    free = [number for number in NODE_PORTS if number not in taken]
    if spec["type"] in _EXTERNAL and spec.get("allocateLoadBalancerNodePorts", True):
        for port in spec.get("ports", []):
            if not port.get("nodePort"):
                port["nodePort"] = free.pop(random.randrange(len(free)))
    is_local = spec.get("externalTrafficPolicy") == "Local"
    if spec["type"] == "LoadBalancer" and is_local:
        spec.setdefault("healthCheckNodePort", free.pop(random.randrange(len(free))))
    else:
        spec.pop("healthCheckNodePort", None)


def _taken(store: Store, name: str) -> Iterator[Any]:
    for service in store.shelf(resource("services")).objects.values():
        yield from service["spec"].get(name, [])


def early_causes(service: Object) -> Iterator[Cause]:
    """What is wrong with a Service before it has addresses."""
    spec = service["spec"]
    for number, family in enumerate(spec.get("ipFamilies", [])):
        if family not in BLOCKS:
            yield Cause.unsupported(f"spec.ipFamilies[{number}]", family, BLOCKS)
    policy = spec.get("ipFamilyPolicy", "SingleStack")
    if policy not in POLICIES:
        yield Cause.unsupported("spec.ipFamilyPolicy", policy, POLICIES)


def allocation_causes(service: Object, store: Store) -> Iterator[Cause]:
    """What a new Service asks for and somebody else has."""
    spec, done = service["spec"], "already allocated"
    address = spec.get("clusterIP", "")
    if address not in ("", "None") and address in _taken(store, "clusterIPs"):
        why = f"failed to allocate IP {address}: provided IP is {done}"
        message = f'Invalid value: ["{address}"]: {why}'
        yield Cause("spec.clusterIPs", message)
    ports = {port.get("nodePort") for port in _taken(store, "ports")} - {None}
    for number, port in enumerate(spec.get("ports", [])):
        if port.get("nodePort") in ports:
            path = f"spec.ports[{number}].nodePort"
            yield Cause.invalid(path, port["nodePort"], f"provided port is {done}")


def causes(service: Object, old: Object | None) -> Iterator[Cause]:
    """What is wrong with a Service."""
    spec = service["spec"]
    kind = spec["type"]
    if kind not in TYPES:
        yield Cause.unsupported("spec.type", kind, TYPES)
    if not spec.get("ports") and kind != "ExternalName" and not _is_headless(spec):
        yield Cause.required("spec.ports")
    for number, port in enumerate(spec.get("ports", [])):
        yield from _port_causes(port, f"spec.ports[{number}]", len(spec["ports"]))
    if kind == "ExternalName" and not spec.get("externalName"):
        yield Cause.required("spec.externalName")
    if old is not None and kind == old["spec"]["type"] == "LoadBalancer":
        new_class = spec.get("loadBalancerClass")
        if new_class != old["spec"].get("loadBalancerClass"):
            why = "may not change once set"
            yield Cause.invalid("spec.loadBalancerClass", new_class, why)
    if old is not None and kind == old["spec"]["type"] != "ExternalName":
        if spec["clusterIP"] != old["spec"]["clusterIP"]:
            shown = f'["{spec["clusterIP"]}"]'
            message = f"Invalid value: {shown}: may not change once set"
            yield Cause("spec.clusterIPs[0]", message)


def _port_causes(port: Object, path: str, count: int) -> Iterator[Cause]:
    range_ = "must be between 1 and 65535, inclusive"
    if count > 1 and not port.get("name"):
        yield Cause.required(f"{path}.name")
    for name in ("port", "targetPort"):
        value = port.get(name)
        if isinstance(value, int) and not 1 <= value <= 65_535:
            yield Cause.invalid(f"{path}.{name}", value, range_)


def status_causes(service: Object) -> Iterator[Cause]:
    """What is wrong with the status of a Service."""
    path = "status.loadBalancer.ingress"
    ingress = service["status"]["loadBalancer"].get("ingress", [])
    if ingress and service["spec"]["type"] != "LoadBalancer":
        yield Cause.forbidden(
            path, "may only be used when `spec.type` is 'LoadBalancer'"
        )
    for number, entry in enumerate(ingress):
        if entry.get("ipMode") and not entry.get("ip"):
            why = "may not be specified when `ip` is not set"
            yield Cause.forbidden(f"{path}[{number}].ipMode", why)


def _is_headless(spec: Object) -> bool:
    return spec.get("clusterIP") == "None"
