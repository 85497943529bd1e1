"""What is there when the API server starts."""

from pyproxy.sandbox.apiserver.cluster import Call, Cluster
from pyproxy.sandbox.apiserver.identity import (
    AUTHENTICATED,
    MASTERS,
    UNAUTHENTICATED,
    Identity,
)
from pyproxy.sandbox.apiserver.kinds import RBAC, Resource, resource, resources
from pyproxy.sandbox.apiserver.route import Target
from pyproxy.sandbox.apiserver.schema import Object
from pyproxy.sandbox.apiserver.writes import create, patch

NODE, NODE_ADDRESS = "sandbox-node", "10.0.0.1"
NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
SYSTEM = Identity("system:apiserver", "", (MASTERS,))
KUBERNETES_ADDRESS = "10.96.0.1"

_READ = ["get", "list", "watch"]
_ALL = ["*"]
_OPEN_URLS = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_VIEWED = (
    *("configmaps", "endpoints", "events", "namespaces", "pods", "pods/log"),
    *("pods/status", "namespaces/status", "serviceaccounts", "services"),
    "services/status",
)


def fill(cluster: Cluster, *, is_populated: bool) -> None:
    """Make what every cluster has; and with `is_populated`, something to look at."""
    for name in NAMESPACES:
        make(cluster, resource("namespaces"), "", {"metadata": {"name": name}})
    for role in _roles():
        make(cluster, resource("clusterroles", RBAC), "", role)
    for binding in _bindings():
        make(cluster, resource("clusterrolebindings", RBAC), "", binding)
    port = int(cluster.address.rpartition(":")[2] or 443)
    make(cluster, resource("services"), "default", _kubernetes(port))
    if is_populated:
        _populate(cluster)


def default_account(cluster: Cluster, space: str) -> None:
    """Make the ServiceAccount that pods use, unless it is there."""
    found = resource("serviceaccounts")
    if cluster.store.get(found, (space, "default")) is None:
        make(cluster, found, space, {"metadata": {"name": "default"}})


def make(cluster: Cluster, found: Resource, space: str, body: Object) -> Object:
    """Create an object, as a client would that may do everything."""
    target = Target("create", "", True, found.group, "v1", found.plural, space)
    call = Call(target, {"fieldManager": "kube-apiserver"}, SYSTEM)
    head = {"kind": found.kind, "apiVersion": found.api_version}
    return create(cluster, call, {**head, **body})


def _patch(
    cluster: Cluster, found: Resource, name: str, subresource: str, body: Object
) -> None:
    parts = (found.group, "v1", found.plural, "", name, subresource)
    call = Call(Target("patch", "", True, *parts), {"fieldManager": "kubelet"}, SYSTEM)
    patch(cluster, call, "application/merge-patch+json", body)


def _kubernetes(port: int) -> Object:
    """The Service by which pods find the API server."""
    labels = {"component": "apiserver", "provider": "kubernetes"}
    ports = [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]
    spec = {"ports": ports, "clusterIP": KUBERNETES_ADDRESS}
    spec["ipFamilyPolicy"] = "SingleStack"
    return {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec}


def _rule(group: str, plurals: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": plurals, "verbs": verbs}


def _roles() -> list[Object]:
    urls = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", *_OPEN_URLS]
    own = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
    rules: dict[str, list[Object]] = {
        "cluster-admin": [
            _rule("*", _ALL, _ALL),
            {"nonResourceURLs": _ALL, "verbs": _ALL},
        ],
        "system:basic-user": [
            _rule("authorization.k8s.io", own, ["create"]),
            _rule("authentication.k8s.io", ["selfsubjectreviews"], ["create"]),
        ],
        "system:discovery": [{"nonResourceURLs": urls, "verbs": ["get"]}],
        "system:public-info-viewer": [
            {"nonResourceURLs": _OPEN_URLS, "verbs": ["get"]}
        ],
        "view": [
            _rule("", list(_VIEWED), _READ),
            _rule("discovery.k8s.io", ["endpointslices"], _READ),
        ],
    }
    return [{"metadata": {"name": name}, "rules": rules[name]} for name in rules]


def _bindings() -> list[Object]:
    bound = {
        "cluster-admin": ("cluster-admin", [MASTERS]),
        "system:basic-user": ("system:basic-user", [AUTHENTICATED]),
        "system:public-info-viewer": (
            "system:public-info-viewer",
            [AUTHENTICATED, UNAUTHENTICATED],
        ),
        "system:discovery": ("system:discovery", [AUTHENTICATED]),
        "viewers": ("view", ["viewers"]),
    }
    return [
        {
            "metadata": {"name": name},
            "subjects": [
                {"kind": "Group", "apiGroup": RBAC, "name": g} for g in groups
            ],
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        }
        for name, (role, groups) in bound.items()
    ]


def _populate(cluster: Cluster) -> None:
    """One node, three pods, and a Service before two of them."""
    node = {"metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}}}
    make(cluster, resource("nodes"), "", node)
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    ready |= {"lastHeartbeatTime": cluster.now(), "lastTransitionTime": cluster.now()}
    addresses = [{"type": "InternalIP", "address": NODE_ADDRESS}]
    info = {"kubeletVersion": "v1.36.2+sandbox", "osImage": "nothing at all"}
    info |= {"operatingSystem": "linux", "architecture": "amd64"}
    room = {"cpu": "2", "memory": "4Gi", "pods": "110"}
    status = {"conditions": [ready], "addresses": addresses, "nodeInfo": info}
    status |= {"capacity": room, "allocatable": room}
    _patch(cluster, resource("nodes"), NODE, "status", {"status": status})
    _patch(cluster, resource("nodes"), NODE, "", {"spec": {"taints": None}})
    pods = [("web-0", "echo"), ("web-1", "echo"), ("clock-0", "clock")]
    for name, image in pods:
        app = name.partition("-")[0]
        container: Object = {"name": app, "image": f"sandbox/{image}:1"}
        container |= {"ports": [{"containerPort": 8080}]} if app == "web" else {}
        metadata = {"name": name, "labels": {"app": app}}
        pod = {"metadata": metadata, "spec": {"containers": [container]}}
        make(cluster, resource("pods"), "default", pod)
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    spec = {"ports": ports, "selector": {"app": "web"}}
    service = {"metadata": {"name": "web"}, "spec": spec}
    make(cluster, resource("services"), "default", service)


def endpoints(cluster: Cluster) -> None:
    """Say where the Service finds its pods, once they have started."""
    pods = cluster.store.shelf(resource("pods")).objects
    found = [
        {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": True},
            "nodeName": NODE,
            "targetRef": {"kind": "Pod", "namespace": space, "name": name},
        }
        for (space, name), pod in sorted(pods.items())
        if pod["metadata"].get("labels", {}).get("app") == "web"
    ]
    slice_ = {
        "metadata": {
            "name": "web-sandbox",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "endpoints": found,
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }
    kind = resources("discovery.k8s.io")["endpointslices"]
    make(cluster, kind, "default", slice_)
