"""The lab with a cluster: an apiserver and the whole kube proxy on its first node.

Services have both families, a port 80 of TCP and one of UDP under the same number, and
slices that a test writes. Pods are places of the lab, or servers that a test starts.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.bastion_cluster import MERGE
from tests.fakes.netexec import Netexec
from tests.fakes.node import NODE, SLICES, SPACE, Agent, Cluster, cluster_in
from tests.support.lab import HTTP, UDP, Lab, Place
from tests.support.waiting import scaled, wait_until

FAMILIES = ("ipv4", "ipv6")
POD_NETWORKS = "10.244.0.0/16,fd44::/16"
BALANCED = {"ipv4": "203.0.113.7", "ipv6": "2001:db8::7"}  # by a load balancer
HEALTHZ_PORT = 10256
TOLD_S = 20.0  # until an object is in force; much longer than it takes


class Endpoint(NamedTuple):
    """A pod as a slice has it."""

    place: Place
    node: str = NODE
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    http: int = HTTP
    udp: int = UDP


@dataclass
class Made:
    """A Service as the apiserver has it."""

    name: str
    spec: dict[str, Any]

    def ip(self, family: str) -> str:
        """Its cluster IP."""
        return str(self.spec["clusterIPs"][FAMILIES.index(family)])

    def node_port(self, protocol: str) -> int:
        """Its node port."""
        (port,) = (p for p in self.spec["ports"] if p["protocol"] == protocol.upper())
        return int(port["nodePort"])


class KubeLab:
    """Network, cluster and agent, and what tests do with them."""

    def __init__(self, lab: Lab, cluster: Cluster, agent: Agent) -> None:
        self.lab, self.cluster, self.agent = lab, cluster, agent
        self.node = lab.nodes[0]
        self.near, self.beside = self.node.pods[:2]  # two pods of the node
        self.there = lab.nodes[1].pods[0]  # one of another
        self.outside = lab.outside[0]
        self._slices: set[str] = set()
        self._services: set[str] = set()

    def call(self, method: str, path: str, body: object = None, kind: str = "") -> Any:
        """Ask the apiserver, which is on the node."""
        with self.node.entered():
            return self.cluster.call(method, path, body, kind)

    def get(self, path: str) -> tuple[int, str]:
        """Ask the agent at its admin address."""
        with self.node.entered():
            return self.agent.get(path)

    def service(
        self,
        name: str,
        *endpoints: Endpoint,
        balanced: bool = False,
        notes: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> Made:
        """Make a Service with its slices; `notes` are annotations."""
        ports = [
            {"name": "web", "port": 80, "protocol": "TCP"},
            {"name": "dns", "port": 80, "protocol": "UDP"},
        ]
        whole = {"ports": ports, "ipFamilyPolicy": "RequireDualStack", **spec}
        metadata = {"name": name, "annotations": notes or {}}
        body = {"metadata": metadata, "spec": whole}
        made = Made(name, self.call("POST", SPACE, body)["spec"])
        self._services.add(name)
        if balanced:
            ingress = [{"ip": ip, "ipMode": "VIP"} for ip in BALANCED.values()]
            status = {"status": {"loadBalancer": {"ingress": ingress}}}
            self.call("PATCH", f"{SPACE}/{name}/status", status, MERGE)
        self.endpoints(name, *endpoints)
        return made

    def change(self, name: str, **spec: Any) -> Made:
        """Change fields of a Service."""
        path = f"{SPACE}/{name}"
        return Made(name, self.call("PATCH", path, {"spec": spec}, MERGE)["spec"])

    def endpoints(self, name: str, *endpoints: Endpoint) -> None:
        """Let a Service have these endpoints and no other; their ports are one pair."""
        for family in FAMILIES:
            made = slice_of(name, family, endpoints)
            key = made["metadata"]["name"]
            if key in self._slices:
                self.call("PATCH", f"{SLICES}/{key}", made, MERGE)
            else:
                self.call("POST", SLICES, made)
                self._slices.add(key)

    def clear(self) -> None:
        """Delete Services and slices of a test."""
        for key in self._slices:
            self.call("DELETE", f"{SLICES}/{key}")
        for name in self._services:
            self.call("DELETE", f"{SPACE}/{name}")
        self._slices.clear()
        self._services.clear()


def slice_of(name: str, family: str, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """A slice of one family."""
    http, udp = (endpoints[0].http, endpoints[0].udp) if endpoints else (HTTP, UDP)
    return {
        "metadata": {
            "name": f"{name}-{family}",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv6" if family == "ipv6" else "IPv4",
        "endpoints": [
            {
                "addresses": [each.place.hosts[family]],
                "nodeName": each.node,
                "conditions": {
                    "ready": each.ready,
                    "serving": each.serving,
                    "terminating": each.terminating,
                },
            }
            for each in endpoints
        ],
        "ports": [
            {"name": "web", "port": http, "protocol": "TCP"},
            {"name": "dns", "port": udp, "protocol": "UDP"},
        ],
    }


def start(
    cluster: Cluster, *flags: str, environment: Mapping[str, str] | None = None
) -> Agent:
    """Start the whole agent in the namespace of the calling thread."""
    return cluster.agent(
        "--capture=tproxy",
        f"--cluster-cidr={POD_NETWORKS}",
        f"--healthz-bind-address=0.0.0.0:{HEALTHZ_PORT}",
        *flags,
        environment={"REAL_PARTS": "1", **(environment or {})},
    )


@contextlib.contextmanager
def kube_lab(
    directory: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[KubeLab]:
    """Two nodes of two pods each, somebody outside, and the agent on the first node."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab(nodes=2, pods=2, outside=1))
        for node in lab.nodes:
            for place in (node, *node.pods):
                lab.serve(place)
        outside, node = lab.outside[0], lab.nodes[0]
        lab.route(outside, node, *(f"{ip}/{32 if '.' in ip else 128}"
                                   for ip in BALANCED.values()))  # fmt: skip
        with node.entered():
            cluster = stack.enter_context(cluster_in(directory))
            cluster.make_node(*node.hosts.values())
            cluster.make_node(*lab.nodes[1].hosts.values(), name="n2")
            agent = start(cluster, *flags, environment=environment)
            stack.enter_context(agent)
            agent.serving()
        yield KubeLab(lab, cluster, agent)


@contextlib.contextmanager
def serving(lab: Lab, place: Place, http: int, udp: int) -> Iterator[Netexec]:
    """One more server at a place, for a time."""
    pod = lab.serve(place, http, udp)
    try:
        yield pod
    finally:
        if pod.code is None:
            place.http(place.hosts["ipv4"], http, "exit")
        gone = (place.hosts["ipv4"], http)
        wait_until(lambda: place.http(*gone) == "refused", TOLD_S)


def answers(
    ask: Callable[..., str], host: str, port: int, expected: str, request: str
) -> None:
    """Wait until a request is answered so."""
    found = ""

    def is_so() -> bool:
        nonlocal found
        found = ask(host, port, request, wait_s=1.0)
        return found == expected

    try:
        wait_until(is_so, TOLD_S)
    except AssertionError:
        raise AssertionError(f"{host} {port}: {found!r}, not {expected!r}") from None


class Client:
    """Sends datagrams from one port for as long as it lives."""

    def __init__(self, place: Place, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with place.entered():
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.settimeout(scaled(0.5))
        self._socket.connect((host, port))
        self.port = self._socket.getsockname()[1]

    def ask(self, request: str = "hostname") -> str:
        """The answer to one datagram, or what came instead."""
        try:
            self._socket.send(request.encode())
            return self._socket.recv(65536).decode()
        except TimeoutError:
            return "silence"
        except (ConnectionRefusedError, PermissionError):
            return "refused"  # the second is said to processes of the node

    def close(self) -> None:
        """Be done."""
        self._socket.close()
