"""What we read of Nodes and Pods: where things run, and how they are reached."""

from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec.structs import force_setattr

from pyproxy.kube.objects import Condition, Object, Part, Protocol


class Taint(Part, frozen=True, kw_only=True):
    """What keeps Pods away from a Node."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Part, frozen=True, kw_only=True):
    """What is wanted of a Node."""

    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    pod_cidrs: tuple[str, ...] = msgspec.field(default=(), name="podCIDRs")
    provider_id: str = msgspec.field(default="", name="providerID")
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeAddress(Part, frozen=True, kw_only=True):
    """One way to reach a Node: InternalIP, Hostname and so on."""

    type: str = ""
    address: str = ""


class DaemonEndpoint(Part, frozen=True, kw_only=True):
    """Where a daemon of a Node listens."""

    port: int = msgspec.field(default=0, name="Port")  # so it is written


class NodeDaemonEndpoints(Part, frozen=True, kw_only=True):
    """Where the daemons of a Node listen."""

    kubelet_endpoint: DaemonEndpoint = DaemonEndpoint()


class NodeStatus(Part, frozen=True, kw_only=True):
    """What has become of a Node. Heartbeats are no part of it."""

    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[Condition, ...] = ()
    daemon_endpoints: NodeDaemonEndpoints = NodeDaemonEndpoints()


class Node(Object, frozen=True, kw_only=True):
    """A machine of the cluster."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ContainerPort(Part, frozen=True, kw_only=True):
    """A port that a container declares."""

    name: str = ""
    container_port: int = 0
    protocol: Protocol = "TCP"


class Container(Part, frozen=True, kw_only=True):
    """A container of a Pod."""

    name: str = ""
    ports: tuple[ContainerPort, ...] = ()


# A nil slice of Go is null on the wire. To us it is empty, see __post_init__.
if TYPE_CHECKING:
    Containers: TypeAlias = tuple[Container, ...]
else:
    Containers = tuple[Container, ...] | None


class PodSpec(Part, frozen=True, kw_only=True):
    """What is wanted of a Pod."""

    node_name: str = ""
    host_network: bool = False
    containers: Containers = ()

    def __post_init__(self) -> None:
        if self.containers is None:
            force_setattr(self, "containers", ())


class PodIP(Part, frozen=True, kw_only=True):
    """An address of a Pod."""

    ip: str = ""


class PodStatus(Part, frozen=True, kw_only=True):
    """What has become of a Pod."""

    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    host_ip: str = msgspec.field(default="", name="hostIP")
    conditions: tuple[Condition, ...] = ()


class Pod(Object, frozen=True, kw_only=True):
    """Containers that run on one Node under one set of addresses."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()
