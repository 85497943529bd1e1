"""The one pod of the sandbox that is really there, with its Service and its node.

It listens on the loopback. An API server takes no such address for an endpoint, so
that these stand in the store as no client could have written them.
"""

from pyproxy.sandbox.apiserver import seed
from pyproxy.sandbox.apiserver.cluster import Cluster
from pyproxy.sandbox.apiserver.kinds import resource, resources
from pyproxy.sandbox.apiserver.schema import Object

ADDRESS = "127.0.0.1"
NAME, NODE = "page", "laptop"
POD = f"{NAME}-0"


def begin(cluster: Cluster) -> None:
    """Make the pod; the keeper starts it like the others."""
    spec = {"containers": [{"name": NAME, "image": "sandbox/page:1"}]}
    made: Object = {"metadata": {"name": POD, "labels": {"app": NAME}}, "spec": spec}
    seed.make(cluster, resource("pods"), "default", made)


def expose(cluster: Cluster, page_port: int, kubelet_port: int) -> None:
    """Say where the pod and the kubelet of its node are, once the pod has started."""
    pods, store = resource("pods"), cluster.store
    found = store.get(pods, ("default", POD))
    assert found is not None
    status = {**found["status"], "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]}
    store.put(pods, ("default", POD), {**found, "status": status})
    ports = [{"name": "http", "port": 80, "targetPort": page_port}]
    spec = {"ports": ports, "selector": {"app": NAME}}
    seed.make(cluster, resource("services"), "default", _named(NAME, spec=spec))
    slices = resources("discovery.k8s.io")["endpointslices"]
    made = seed.make(cluster, slices, "default", _slice(page_port))
    there = [{**each, "addresses": [ADDRESS]} for each in made["endpoints"]]
    key = ("default", made["metadata"]["name"])
    store.put(slices, key, {**made, "endpoints": there})
    nodes = resource("nodes")
    node = seed.make(cluster, nodes, "", _named(NODE))
    said = {
        "addresses": [{"type": "InternalIP", "address": ADDRESS}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
    }
    store.put(nodes, ("", NODE), {**node, "status": {**node.get("status", {}), **said}})


def _named(name: str, **more: Object) -> Object:
    return {"metadata": {"name": name}, **more}


def _slice(port: int) -> Object:
    target = {"kind": "Pod", "namespace": "default", "name": POD}
    ready: Object = {"addresses": [seed.NODE_ADDRESS], "conditions": {"ready": True}}
    return {
        "metadata": {
            "name": f"{NAME}-sandbox",
            "labels": {"kubernetes.io/service-name": NAME},
        },
        "addressType": "IPv4",
        "endpoints": [{**ready, "targetRef": target}],
        "ports": [{"name": "http", "protocol": "TCP", "port": port}],
    }
