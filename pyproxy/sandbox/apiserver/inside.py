"""What is really there: a pod with its node, and servers; Services before both.

They listen on the loopback. An API server takes no such address for an endpoint, so
that these stand in the store as no client could have written them.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

from pyproxy.sandbox.apiserver import seed
from pyproxy.sandbox.apiserver.cluster import Cluster
from pyproxy.sandbox.apiserver.kinds import resource, resources
from pyproxy.sandbox.apiserver.schema import Object

ADDRESS = "127.0.0.1"
NAME, NODE = "page", "laptop"
POD = f"{NAME}-0"
SERVERS = "servers"  # a Service with a node port


class Real(NamedTuple):
    """Ports of the loopback."""

    page: int  # of the pod
    kubelet: int
    node_port: int = 0  # of the Service of `servers`; 0 = there is none
    servers: tuple[int, ...] = ()

    @classmethod
    def of(cls, ports: Sequence[int]) -> Self | None:
        """Return them as they stand on a command line."""
        if not ports:
            return None
        page, kubelet, *rest = ports
        return cls(page, kubelet, rest[0] if rest else 0, tuple(rest[1:]))


def begin(cluster: Cluster) -> None:
    """Make the pod; the keeper starts it like the others."""
    spec = {"containers": [{"name": NAME, "image": "sandbox/page:1"}]}
    made: Object = {"metadata": {"name": POD, "labels": {"app": NAME}}, "spec": spec}
    seed.make(cluster, resource("pods"), "default", made)


def expose(cluster: Cluster, real: Real) -> None:
    """Say where everything is, once the pod has started."""
    _expose_pod(cluster, real.page)
    nodes, store = resource("nodes"), cluster.store
    node = seed.make(cluster, nodes, "", _named(NODE))
    said = {
        "addresses": [{"type": "InternalIP", "address": ADDRESS}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": real.kubelet}},
    }
    store.put(nodes, ("", NODE), {**node, "status": {**node.get("status", {}), **said}})
    if real.node_port:
        _expose_servers(cluster, real)


def _expose_servers(cluster: Cluster, real: Real) -> None:
    """One slice for each: their ports differ."""
    port = {"name": "https", "port": 443, "nodePort": real.node_port}
    spec = {"type": "NodePort", "ports": [port]}
    seed.make(cluster, resource("services"), "default", _named(SERVERS, spec=spec))
    for number, server in enumerate(real.servers):
        made = _slice(server, SERVERS, f"{SERVERS}-{number}", "https")
        _put_slice(cluster, made)


def _put_slice(cluster: Cluster, wanted: Object) -> None:
    slices = resources("discovery.k8s.io")["endpointslices"]
    made = seed.make(cluster, slices, "default", wanted)
    there = [{**each, "addresses": [ADDRESS]} for each in made["endpoints"]]
    key = ("default", made["metadata"]["name"])
    cluster.store.put(slices, key, {**made, "endpoints": there})


def _expose_pod(cluster: Cluster, page_port: int) -> None:
    pods, store = resource("pods"), cluster.store
    found = store.get(pods, ("default", POD))
    assert found is not None
    status = {**found["status"], "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
    store.put(pods, ("default", POD), {**found, "status": status})
    ports = [{"name": "http", "port": 80, "targetPort": page_port}]
    spec = {"ports": ports, "selector": {"app": NAME}}
    seed.make(cluster, resource("services"), "default", _named(NAME, spec=spec))
    made = _slice(page_port, NAME, f"{NAME}-sandbox", "http")
    target = {"kind": "Pod", "namespace": "default", "name": POD}
    made["endpoints"] = [{**each, "targetRef": target} for each in made["endpoints"]]
    _put_slice(cluster, made)


def _named(name: str, **more: Object) -> Object:
    return {"metadata": {"name": name}, **more}


def _slice(port: int, service: str, name: str, port_name: str) -> Object:
    ready: Object = {"addresses": [seed.NODE_ADDRESS], "conditions": {"ready": True}}
    return {
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [ready],
        "ports": [{"name": port_name, "protocol": "TCP", "port": port}],
    }
