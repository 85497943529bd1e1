"""What we read of the API's objects: frozen structs of those fields and no others.

Unknown fields are skipped while decoding, so one struct serves every version of the API
that has the fields. All structs compare with ==; two objects that are equal differ in
nothing that we read, resourceVersion aside. They hold no cycles, so the garbage
collector need not look at them (gc=False): a full collection beside 100,000 endpoints
costs what it costs without them.

What we do not read we must not write: `Client.update` is for kinds of which we own
every field that matters (Lease); all others are patched.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
from msgspec.structs import force_setattr

NO_LABELS: Mapping[str, str] = {}

Protocol: TypeAlias = Literal["TCP", "UDP", "SCTP"]


class Part(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    omit_defaults=True,
    gc=False,
):
    """Base of everything in an object."""


class ObjectMeta(Part, frozen=True, kw_only=True, eq=False):
    """Name, version and labels of an object.

    Version and generation are no part of `==`: they change with what we do not read.
    """

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: Mapping[str, str] = NO_LABELS
    annotations: Mapping[str, str] = NO_LABELS
    finalizers: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """`namespace/name`; the name alone where there is no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def _compared(self) -> tuple[object, ...]:
        return (
            self.name,
            self.namespace,
            self.uid,
            self.deletion_timestamp,
            self.labels,
            self.annotations,
            self.finalizers,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectMeta):
            return NotImplemented
        return self._compared() == other._compared()

    __hash__ = None  # type: ignore[assignment]  # it holds mappings


class Object(Part, frozen=True, kw_only=True):
    """An object of the API."""

    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> str:
        """`namespace/name`; the name alone where there is no namespace."""
        return self.metadata.key


class ListMeta(Part, frozen=True, kw_only=True):
    """About a list, or about a page of one."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")
    remaining_item_count: int | None = None


class StatusCause(Part, frozen=True, kw_only=True):
    """One thing that is wrong with a request."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Part, frozen=True, kw_only=True):
    """What a refusal is about."""

    name: str = ""
    kind: str = ""
    causes: tuple[StatusCause, ...] = ()
    retry_after_seconds: int = 0


class Status(Part, frozen=True, kw_only=True):
    """What the API answers in place of an object, mostly why it refuses."""

    metadata: ListMeta = ListMeta()
    status: str = ""
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None
    code: int = 0


class ObjectReference(Part, frozen=True, kw_only=True):
    """Another object."""

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class Condition(Part, frozen=True, kw_only=True):
    """One thing that holds of an object, or does not; heartbeats are not read."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str | None = None


# Services


class ServicePort(Part, frozen=True, kw_only=True):
    """One port of a Service. `target_port` is resolved in its EndpointSlices."""

    name: str = ""
    protocol: Protocol = "TCP"
    port: int = 0
    target_port: int | str = 0
    node_port: int = 0
    app_protocol: str | None = None


class ClientIPConfig(Part, frozen=True, kw_only=True):
    """How long a client stays with its endpoint."""

    timeout_seconds: int | None = None


class SessionAffinityConfig(Part, frozen=True, kw_only=True):
    """Settings of sessionAffinity."""

    client_ip: ClientIPConfig | None = msgspec.field(default=None, name="clientIP")


class ServiceSpec(Part, frozen=True, kw_only=True):
    """What is wanted of a Service."""

    type: str = "ClusterIP"
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] | None = None
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str | None = None
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    external_traffic_policy: str = ""
    internal_traffic_policy: str | None = None
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    load_balancer_ip: str = msgspec.field(default="", name="loadBalancerIP")
    load_balancer_source_ranges: tuple[str, ...] = ()
    load_balancer_class: str | None = None
    allocate_load_balancer_node_ports: bool | None = None


class PortStatus(Part, frozen=True, kw_only=True):
    """A port of a load balancer."""

    port: int = 0
    protocol: Protocol = "TCP"
    error: str | None = None


class LoadBalancerIngress(Part, frozen=True, kw_only=True):
    """One address of a load balancer."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str | None = None
    ports: tuple[PortStatus, ...] = ()


class LoadBalancerStatus(Part, frozen=True, kw_only=True):
    """All addresses of a load balancer."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Part, frozen=True, kw_only=True):
    """What has become of a Service."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] = ()


class Service(Object, frozen=True, kw_only=True):
    """A name with addresses and ports that endpoints stand behind."""

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class ServiceCIDRSpec(Part, frozen=True, kw_only=True):
    """Blocks of cluster IPs."""

    cidrs: tuple[str, ...] = ()


class ServiceCIDR(Object, frozen=True, kw_only=True):
    """Where cluster IPs come from."""

    spec: ServiceCIDRSpec = ServiceCIDRSpec()


# EndpointSlices


class EndpointConditions(Part, frozen=True, kw_only=True):
    """None = not said; the properties of `Endpoint` say what that means."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForName(Part, frozen=True, kw_only=True):
    """A zone or node that an endpoint is meant for."""

    name: str = ""


class EndpointHints(Part, frozen=True, kw_only=True):
    """The zones and nodes that an endpoint is meant for."""

    for_zones: tuple[ForName, ...] = ()
    for_nodes: tuple[ForName, ...] = ()


UNSAID = EndpointConditions()


class Endpoint(Part, frozen=True, kw_only=True):
    """One place that takes the traffic of a Service."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = UNSAID
    node_name: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None
    target_ref: ObjectReference | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it takes new traffic; not said = yes."""
        return self.conditions.ready is not False

    @property
    def is_serving(self) -> bool:
        """Whether it could, be it terminating or not; not said = yes."""
        return self.conditions.serving is not False

    @property
    def is_terminating(self) -> bool:
        """Whether it is about to end; not said = no."""
        return self.conditions.terminating is True


class EndpointPort(Part, frozen=True, kw_only=True):
    """A port of all endpoints of a slice."""

    name: str | None = None
    protocol: Protocol = "TCP"
    port: int | None = None
    app_protocol: str | None = None


# A nil slice of Go is null on the wire. To us it is empty, see __post_init__.
if TYPE_CHECKING:
    Endpoints: TypeAlias = tuple[Endpoint, ...]
    EndpointPorts: TypeAlias = tuple[EndpointPort, ...]
else:
    Endpoints = tuple[Endpoint, ...] | None
    EndpointPorts = tuple[EndpointPort, ...] | None


class EndpointSlice(Object, frozen=True, kw_only=True):
    """Some of the endpoints of a Service, of one family of addresses."""

    address_type: str = ""
    endpoints: Endpoints = ()
    ports: EndpointPorts = ()

    def __post_init__(self) -> None:
        if self.endpoints is None:
            force_setattr(self, "endpoints", ())
        if self.ports is None:
            force_setattr(self, "ports", ())

    @property
    def service(self) -> str:
        """The key of its Service; "" = it has none."""
        name = self.metadata.labels.get("kubernetes.io/service-name", "")
        return f"{self.metadata.namespace}/{name}" if name else ""
