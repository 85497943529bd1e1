"""From the id of a proxy URL to the addresses behind it, or to why there are none.

Pure: objects come out of stores, names of nodes out of what was looked up. Every
address that leaves this module has passed the rules for addresses, and is what is
dialled: no name is resolved afterwards.

Source: kubernetes, ResourceLocation of pods, services and nodes (1.36; Services by
EndpointSlices as in 1.37). Beyond it: a Service's only port needs no name, ports of
Pods may be named, and all ready endpoints of a Service are returned.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pyproxy.http.addresses import AddressRules
from pyproxy.http.addresses import parse as parse_address
from pyproxy.http.proxypath import ProxyId, ProxyPath, split_id
from pyproxy.kube.machines import Node, Pod
from pyproxy.kube.objects import Endpoint, EndpointSlice, Service
from pyproxy.kube.store import Store
from pyproxy.model import Key

KUBELET_PORT = 10250
ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname")  # as kubeadm sets it up
PORTS = {"": 80, "http": 80, "https": 443}
BY_SERVICE, BY_POD = "service", "pod"  # indexes of slices

T = TypeVar("T")


def slices_by_service(each: EndpointSlice) -> list[str]:
    """Return the key of a slice's Service, for an index."""
    return [each.service] if each.service else []


def slices_by_pod(each: EndpointSlice) -> list[str]:
    """Return the keys of the Pods in a slice, for an index."""
    pods = (_pod_of(endpoint) for endpoint in each.endpoints)
    return list(dict.fromkeys(key for key in pods if key))


@dataclass(frozen=True, slots=True)
class Stores:
    """What is known of the cluster."""

    pods: Store[Pod] = field(default_factory=Store)
    services: Store[Service] = field(default_factory=Store)
    slices: Store[EndpointSlice] = field(
        default_factory=lambda: Store(
            {BY_SERVICE: slices_by_service, BY_POD: slices_by_pod}
        )
    )
    nodes: Store[Node] = field(default_factory=Store)

    def unsynced(self) -> list[str]:
        """Return the kinds of which not all is known yet."""
        stores: dict[str, bool] = {
            "pods": self.pods.is_synced,
            "services": self.services.is_synced,
            "endpointslices": self.slices.is_synced,
            "nodes": self.nodes.is_synced,
        }
        return [name for name, is_synced in stores.items() if not is_synced]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a request goes."""

    scheme: str  # "http" or "https"
    addresses: tuple[Key, ...]  # at least one
    others: tuple[Key, ...] = ()  # of the other family, for when none of those answers
    kubelet: str = ""  # the host that its certificate is for; "" = it is no kubelet


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request goes nowhere, in an apiserver's words."""

    code: int
    reason: str
    message: str
    name: str = ""  # of the object that is missing


@dataclass(frozen=True, slots=True)
class Lookup:
    """A name whose addresses must be known first."""

    host: str


Outcome = Location | Refused | Lookup
USUAL = AddressRules()
NOT_ALLOWED = Refused(400, "BadRequest", "address not allowed")


@dataclass(frozen=True, slots=True)
class Resolver:
    """Finds what ids stand for, as of now."""

    stores: Stores
    rules: AddressRules = USUAL
    address_types: tuple[str, ...] = ADDRESS_TYPES

    def resolve(self, path: ProxyPath, names: Mapping[str, tuple[str, ...]]) -> Outcome:
        """Say where a request goes. `names` are addresses of names of nodes."""
        found = split_id(path.id)
        if found is None:
            invalid = f'invalid {path.object} request "{path.id}"'
            return Refused(400, "BadRequest", invalid)
        if path.kind == "nodes":
            return self._node(found, names)
        if path.kind == "pods":
            return self._pod(path, found)
        return self._service(path, found)

    # Pods

    def _pod(self, path: ProxyPath, wanted: ProxyId) -> Outcome:
        pod = self.stores.pods.get(f"{path.namespace}/{wanted.name}")
        if pod is None:
            return _missing("pods", wanted.name)
        ips = _ips(pod)
        port = _port_of_pod(pod, wanted)
        if port is None:
            said = f'no port "{wanted.port}" found for pod "{wanted.name}"'
            return Refused(400, "BadRequest", said)
        address = self.rules.accept(ips[0], port) if ips else ""
        if not address:
            return NOT_ALLOWED
        return Location(wanted.scheme or "http", ((address, port),))

    # Services

    def _service(self, path: ProxyPath, wanted: ProxyId) -> Outcome:
        key = f"{path.namespace}/{wanted.name}"
        service = self.stores.services.get(key)
        if service is None:
            return _missing("services", wanted.name)
        port = _port_of_service(service, wanted.port)
        if port is None:
            said = f'no service port {wanted.port} found for service "{wanted.name}"'
            return Refused(503, "ServiceUnavailable", said)
        slices = self.stores.slices.by(BY_SERVICE, key)
        found: dict[bool, dict[Key, None]] = {True: {}, False: {}}
        first = (service.spec.ip_families or ("IPv4",))[0]
        for each in slices:
            found[each.address_type == first].update(self._endpoints(each, port))
        addresses, others = tuple(found[True]), tuple(found[False])
        if addresses or others:
            scheme = wanted.scheme or "http"
            return Location(scheme, addresses or others, others if addresses else ())
        # A peer's two places say it in two ways: with the name, or with the whole id.
        ready = any(e.is_ready for each in slices for e in each.endpoints)
        shown = path.id if ready else wanted.name
        said = f'no endpoints available for service "{shown}"'
        return Refused(503, "ServiceUnavailable", said)

    def _endpoints(self, each: EndpointSlice, port_name: str) -> dict[Key, None]:
        ports = [p.port for p in each.ports if (p.name or "") == port_name and p.port]
        if not ports or ports[0] is None:
            return {}
        found: dict[Key, None] = {}
        for endpoint in each.endpoints:
            if endpoint.is_ready and self._is_sound(each, endpoint):
                address = self.rules.accept(endpoint.addresses[0], ports[0])
                if address:
                    found[address, ports[0]] = None
        return found

    def _is_sound(self, each: EndpointSlice, endpoint: Endpoint) -> bool:
        """Whether it is what it says: a Pod of its namespace, at an address of it.

        Or whoever may write EndpointSlices could send users anywhere (CVE-2021-25740).
        """
        key = _pod_of(endpoint)
        if not endpoint.addresses or not key:
            return False
        if key.partition("/")[0] != each.metadata.namespace:
            return False
        pod = self.stores.pods.get(key)
        if pod is None:
            return False
        # Compared as addresses: IPv6 has several spellings.
        stated = parse_address(endpoint.addresses[0])
        return stated is not None and stated in map(parse_address, _ips(pod))

    # Nodes

    def _node(self, wanted: ProxyId, names: Mapping[str, tuple[str, ...]]) -> Outcome:
        node = self.stores.nodes.get(wanted.name)
        if node is None:
            return _missing("nodes", wanted.name)
        host = next(self._hosts(node), "")
        if not host:
            said = f"no preferred addresses found; known addresses: {wanted.name}"
            return Refused(500, "InternalError", f"Internal error occurred: {said}")
        kubelet_port = node.status.daemon_endpoints.kubelet_endpoint.port
        kubelet_port = kubelet_port or KUBELET_PORT
        port = _number(wanted.port) if wanted.port else kubelet_port
        if port is None:
            return Refused(400, "BadRequest", f'invalid node request "{wanted.name}"')
        if parse_address(host) is not None:
            ips: tuple[str, ...] = (host,)
        elif host in names:
            ips = names[host]
        else:
            return Lookup(host)
        if not ips:
            return Refused(400, "BadRequest", f"no addresses for hostname: {host}")
        # Every one of them, or a name with two faces would pass now and then.
        accepted = [self.rules.accept(ip, port) for ip in ips]
        if not all(accepted):
            return NOT_ALLOWED
        is_kubelet = port == kubelet_port
        scheme = "https" if is_kubelet else wanted.scheme or "http"
        addresses = tuple((ip, port) for ip in accepted)
        return Location(scheme, addresses, kubelet=host if is_kubelet else "")

    def _hosts(self, node: Node) -> Iterator[str]:
        for kind in self.address_types:
            for address in node.status.addresses:
                if address.type == kind and address.address:
                    yield address.address


def _missing(kind: str, name: str) -> Refused:
    return Refused(404, "NotFound", f'{kind} "{name}" not found', name)


def _ips(pod: Pod) -> tuple[str, ...]:
    return tuple(each.ip for each in pod.status.pod_ips if each.ip)


def _pod_of(endpoint: Endpoint) -> str:
    """Return the key of an endpoint's Pod; "" = it has none."""
    ref = endpoint.target_ref
    if ref is None or ref.kind not in ("", "Pod"):
        return ""
    return f"{ref.namespace}/{ref.name}"


def _number(text: str) -> int | None:
    """Return a port that is written as a number, None for any other text."""
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        return None
    return int(text)


def _port_of_pod(pod: Pod, wanted: ProxyId) -> int | None:
    declared = [port for each in pod.spec.containers for port in each.ports]
    if not wanted.port:
        return declared[0].container_port if declared else PORTS[wanted.scheme]
    if wanted.port.isdigit():
        return _number(wanted.port)
    named = (p.container_port for p in declared if p.name == wanted.port)
    return next(named, None)


def _port_of_service(service: Service, wanted: str) -> str | None:
    """Return the name of a port; None = a number that the Service has not."""
    ports = service.spec.ports
    number = _number(wanted)
    if number is not None:
        return next((port.name for port in ports if port.port == number), None)
    if not wanted and len(ports) == 1:
        return ports[0].name
    return wanted
