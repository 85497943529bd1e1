"""The objects of a cluster whose pod is a server of the test."""

import contextlib
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

NAMESPACE = "e2e"
MERGE = "application/merge-patch+json"
Call = Callable[..., Any]
DEAD_PORT = 1  # where nothing listens
KUBELET_PORT = 10250  # likewise


class Served(Protocol):
    """Where the servers of the pod listen."""

    host: str
    port: int
    tls_port: int


def caller(url: str, ca: Path) -> Call:
    """Return a function that sends requests as administrator."""
    context = ssl.create_default_context(cafile=str(ca))

    def call(method: str, path: str, body: object = None, kind: str = "") -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url + path, data, method=method)
        request.add_header("Authorization", "Bearer admin-token")
        request.add_header("Content-Type", kind or "application/json")
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            return json.loads(answer.read())

    return call


def populate(call: Call, backend: Served) -> None:
    """Make what the recorded requests were about, as far as they need it."""
    core = f"/api/v1/namespaces/{NAMESPACE}"
    call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for name, address in (("n1", backend.host), ("loop", "127.0.0.1")):
        make_node(call, name, address, KUBELET_PORT)
    make_pod(call, "web-0", backend.host, [("http", 1), ("odd", backend.port)])
    make_pod(call, "multi", backend.host, [("odd", backend.port), ("http", 1)])
    make_pod(call, "pending", "", [])
    web = [("odd", 9999, backend.port), ("tls", 9443, backend.tls_port)]
    make_service(call, "web", web, "web-0", backend.host)
    make_service(call, "single", [("only", 80, backend.port)], "web-0", backend.host)
    make_service(call, "unnamed", [("", 93, backend.port)], "web-0", backend.host)
    make_service(call, "dead", [("", 80, DEAD_PORT)], "web-0", backend.host)
    make_service(call, "empty", [("", 80, backend.port)], "", "")
    spec = {"type": "ExternalName", "externalName": "example.com"}
    call("POST", f"{core}/services", {"metadata": {"name": "ext"}, "spec": spec})


def make_node(call: Call, name: str, address: str, port: int) -> None:
    """Make a Node whose kubelet is at a port."""
    status = {
        "addresses": [{"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    call("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, MERGE)


def make_pod(call: Call, name: str, ip: str, ports: list[tuple[str, int]]) -> None:
    """Make a running Pod; without an address, one that is pending."""
    declared = [{"name": n, "containerPort": p} for n, p in ports]
    spec = {"containers": [{"name": "c", "image": "none", "ports": declared}]}
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    call("POST", pods, {"metadata": {"name": name}, "spec": spec})
    if ip:
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
        call("PATCH", f"{pods}/{name}/status", {"status": status}, MERGE)


def make_service(
    call: Call, name: str, ports: list[tuple[str, int, int]], pod: str, ip: str
) -> None:
    """Make a Service with its slice, and the Endpoints that 1.36 goes by."""
    space = f"namespaces/{NAMESPACE}"
    spec: dict[str, Any] = {
        "selector": {"app": name},
        "ports": [{"name": n, "port": p, "targetPort": t} for n, p, t in ports],
    }
    made = {"metadata": {"name": name}, "spec": spec}
    call("POST", f"/api/v1/{space}/services", made)
    ref = {"kind": "Pod", "namespace": NAMESPACE, "name": pod}
    named = [{"name": n, "port": t, "protocol": "TCP"} for n, _, t in ports]
    endpoints = [{"addresses": [ip], "targetRef": ref}] if pod else []
    labels = {"kubernetes.io/service-name": name}
    part = {
        "metadata": {"name": f"{name}-1", "labels": labels},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": named,
    }
    call("POST", f"/apis/discovery.k8s.io/v1/{space}/endpointslices", part)
    subsets = [{"addresses": [{"ip": ip, "targetRef": ref}], "ports": named}]
    older = {"metadata": {"name": name}, "subsets": subsets if pod else []}
    with contextlib.suppress(urllib.error.HTTPError):
        call("POST", f"/api/v1/{space}/endpoints", older)
