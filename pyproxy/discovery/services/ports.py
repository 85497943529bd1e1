"""What a Service wants, port by port: addresses, policies and who may come.

Source: kubernetes, pkg/proxy/serviceport.go (1.36).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pyproxy.discovery.services.families import (
    FAMILIES,
    Family,
    family_of,
    is_in,
    is_special,
    network_of,
    single,
)
from pyproxy.discovery.services.here import Here
from pyproxy.discovery.services.settings import HEADLESS, PROXY_NAME, Settings
from pyproxy.kube.objects import Service, ServicePort
from pyproxy.kube.spelling import canonical
from pyproxy.model import Protocol

Kind: TypeAlias = Literal["cluster", "load-balancer", "external", "node-port"]

# One that all Services have that say nothing; the API server writes it down.
AFFINITY_S = 10800.0
PROTOCOLS: dict[str, Protocol] = {"TCP": "tcp", "UDP": "udp"}


@dataclass(frozen=True, slots=True)
class Face:
    """A Service in one family."""

    family: Family
    cluster_ip: str
    load_balancer: tuple[str, ...]
    external: tuple[str, ...]
    sources: tuple[str, ...] | None  # networks that the load balancer's clients are of


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Service as far as its endpoints do not matter."""

    faces: tuple[Face, ...]
    ports: tuple[ServicePort, ...]  # of protocols that are carried
    internal_local: bool
    external_local: bool
    affinity_s: float  # 0 = none
    health_port: int  # 0 = none
    complaints: tuple[str, ...]


def why_skipped(service: Service, settings: Settings) -> str:
    """Say why a Service is none of ours; "" = it is."""
    labels, spec = service.metadata.labels, service.spec
    name = labels.get(PROXY_NAME, "")
    if PROXY_NAME in labels and (not name or name != settings.service_proxy_name):
        return f"label {PROXY_NAME} gives it to {name or 'nobody'}"
    if settings.service_proxy_name and PROXY_NAME not in labels:
        return f"label {PROXY_NAME} is not {settings.service_proxy_name}"
    if HEADLESS in labels:
        return f"label {HEADLESS}"
    if spec.type == "ExternalName":
        return "type ExternalName"
    if not spec.cluster_ip or spec.cluster_ip == "None":
        return "no cluster IP: headless" if spec.cluster_ip else "no cluster IP yet"
    return ""


def wanted(service: Service, here: Here, settings: Settings) -> Wanted:
    """Read a Service that is ours."""
    spec, complaints = service.spec, list[str]()
    faces = tuple(_faces(service, here, settings, complaints))
    ports = tuple(port for port in spec.ports if port.protocol in PROTOCOLS)
    for port in spec.ports:
        if port.protocol not in PROTOCOLS:
            complaints.append(f"port {port.port}: {port.protocol} is not carried")
    is_external = spec.type in ("NodePort", "LoadBalancer")
    is_external |= spec.type == "ClusterIP" and bool(spec.external_ips)
    external_local = is_external and spec.external_traffic_policy == "Local"
    has_health = external_local and spec.type == "LoadBalancer"
    return Wanted(
        faces,
        ports,
        internal_local=spec.internal_traffic_policy == "Local",
        external_local=external_local,
        affinity_s=_affinity_s(service),
        health_port=spec.health_check_node_port if has_health else 0,
        complaints=tuple(complaints),
    )


def _affinity_s(service: Service) -> float:
    if service.spec.session_affinity != "ClientIP":
        return 0.0
    config = service.spec.session_affinity_config
    client = config.client_ip if config is not None else None
    said = client.timeout_seconds if client is not None else None
    return float(said) if said else AFFINITY_S


def _faces(
    service: Service, here: Here, settings: Settings, complaints: list[str]
) -> Iterator[Face]:
    spec = service.spec
    balanced = [
        each.ip
        for each in service.status.load_balancer.ingress
        if each.ip and each.ip_mode in (None, "VIP")
    ]
    if spec.external_ips and not settings.external_ips:
        complaints.append("externalIPs are not served (a switch allows them)")
    cluster = _canonical(spec.cluster_ips or (spec.cluster_ip,), complaints)
    balanced = _ordinary(balanced, complaints)
    named = spec.external_ips if settings.external_ips else ()
    external = _ordinary(named, complaints)
    ranges = spec.load_balancer_source_ranges
    for family in FAMILIES:
        # A family without a cluster IP is not one of this Service.
        for cluster_ip in _of(family, cluster)[:1]:
            mine = _of(family, balanced)
            sources = None
            if ranges and mine:
                node_ip = here.side(family).node_ip
                sources = _sources(ranges, family, mine, node_ip, complaints)
            yield Face(family, cluster_ip, mine, _of(family, external), sources)


def _canonical(said: Sequence[str], complaints: list[str]) -> list[str]:
    found = [(each, canonical(each)) for each in said]
    complaints += [f"{each!r} is no address" for each, address in found if not address]
    return [address for _, address in found if address]


def _ordinary(said: Sequence[str], complaints: list[str]) -> list[str]:
    """Return addresses that others may be given; statuses are hardly validated."""
    found = _canonical(said, complaints)
    complaints += [f"{each} is not served" for each in found if is_special(each)]
    return [each for each in found if not is_special(each)]


def _of(family: Family, addresses: Sequence[str]) -> tuple[str, ...]:
    if not addresses:
        return ()
    return tuple(each for each in addresses if family_of(each) == family)


def _sources(
    ranges: Sequence[str],
    family: Family,
    balanced: Sequence[str],
    node_ip: str,
    complaints: list[str],
) -> tuple[str, ...] | None:
    """Return the networks of a family; None = anybody, as the other family alone is."""
    version = 6 if family == "IPv6" else 4
    read = [(text, network_of(text)) for text in ranges]
    wrong = [text for text, network in read if network is None]
    complaints += [f"source range {text!r} is no network" for text in wrong]
    networks = [net for _, net in read if net is not None and net.version == version]
    if not networks:
        return () if len(wrong) == len(read) else None
    found = [str(network) for network in networks]
    if node_ip and is_in(node_ip, networks):
        # A client on this node dials an address that the node has itself, maybe: then
        # the kernel gives the client that very address.
        found += [single(address) for address in balanced]
    return tuple(found)
