"""Services and slices in two lines each, and where a packet to them would go."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from pyproxy.discovery.services import (
    BY_SERVICE,
    Delta,
    Here,
    ServiceHandler,
    ServiceTable,
    Settings,
    SliceHandler,
    Table,
    by_service,
    here_of,
)
from pyproxy.kube.objects import (
    NO_LABELS,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    ForName,
    ObjectMeta,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from pyproxy.kube.slices import SERVICE_NAME, BriefEndpoint, BriefSlice
from pyproxy.kube.store import Store
from pyproxy.model import Protocol, Vip

# Addresses as upstream's tests have them.
NODE = "test-node"
NODE_IP, NODE_IP_ALT = "192.168.0.2", "192.168.1.2"
NODE_IP6, NODE_IP6_ALT = "2001:db8::1", "2001:db8:1::2"
NODE_IPS = (NODE_IP, NODE_IP_ALT, NODE_IP6, NODE_IP6_ALT, "127.0.0.1", "::1")
POD, POD6 = "10.0.0.2", "fd00:10::2"
CLIENT, BLOCKED, CLIENT6 = "203.0.113.2", "203.0.113.130", "2600:5200::1"
EXTERNAL_IP, LB_IP, LB_IP2 = "192.168.99.11", "1.2.3.4", "5.6.7.8"
PODS = ("10.0.0.0/8", "fd00:10::/64")
USUAL = Settings(
    NODE, node_ips=(NODE_IP, NODE_IP6), cluster_cidrs=PODS, external_ips=True
)


def port(number: int, name: str = "p80", **more: Any) -> ServicePort:
    """Return a port of a Service."""
    return ServicePort(name=name, port=number, **more)


def service(
    key: str, ip: str | Sequence[str], *ports: ServicePort, **spec: Any
) -> Service:
    """Return a Service; of its metadata and status, see what is popped here."""
    namespace, _, name = key.partition("/")
    ips = (ip,) if isinstance(ip, str) else tuple(ip)
    meta: dict[str, Any] = {
        "labels": {},
        "annotations": {},
        "creation_timestamp": "2026-01-01T00:00:00Z",
    }
    meta |= {name: spec.pop(name) for name in meta if name in spec}
    meta["uid"] = f"{key} of {meta['creation_timestamp']}"
    ingress = [
        {"ip": each} if isinstance(each, str) else each
        for each in spec.pop("ingress", ())
    ]
    status = msgspec.convert({"loadBalancer": {"ingress": ingress}}, ServiceStatus)
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace, **meta),
        spec=ServiceSpec(
            cluster_ip=ips[0] if ips else "",
            cluster_ips=ips,
            ports=ports or (port(80),),
            **spec,
        ),
        status=status,
    )


def endpoint(
    address: str,
    node: str | None = None,
    state: str = "ready",
    zones: Iterable[str] = (),
    nodes: Iterable[str] = (),
) -> BriefEndpoint:
    """Return an endpoint: ready, unready, leaving (still serving) or ending."""
    said = {
        "ready": EndpointConditions(ready=True, serving=True, terminating=False),
        "unready": EndpointConditions(ready=False, serving=False, terminating=False),
        "leaving": EndpointConditions(ready=False, serving=True, terminating=True),
        "ending": EndpointConditions(ready=False, serving=False, terminating=True),
        "unsaid": EndpointConditions(),
    }
    hints = EndpointHints(
        for_zones=tuple(ForName(name=each) for each in zones),
        for_nodes=tuple(ForName(name=each) for each in nodes),
    )
    return BriefEndpoint(
        addresses=(address,),
        conditions=said[state],
        node_name=node,
        hints=hints if zones or nodes else None,
    )


def slice_of(
    key: str,
    *endpoints: BriefEndpoint,
    number: int = 1,
    ports: Iterable[tuple[str | None, int | None, str]] = (("p80", 80, "TCP"),),
    family: str = "",
    labels: Mapping[str, str] = NO_LABELS,
) -> BriefSlice:
    """Return a slice of a Service; its family is that of its first address."""
    namespace, _, name = key.partition("/")
    first = endpoints[0].addresses[0] if endpoints else ""
    return BriefSlice(
        metadata=ObjectMeta(
            name=f"{name}-{number}",
            namespace=namespace,
            labels={SERVICE_NAME: name, **labels},
        ),
        address_type=family or ("IPv6" if ":" in first else "IPv4"),
        endpoints=endpoints,  # type: ignore[arg-type]  # rows are made of them
        ports=tuple(
            EndpointPort(name=name, port=number, protocol=protocol)  # type: ignore[arg-type]
            for name, number, protocol in ports
        ),
    )


class World:
    """Stores, handlers and the table of one node."""

    def __init__(
        self,
        settings: Settings = USUAL,
        here: Here | None = None,
        local: Sequence[str] = NODE_IPS,
    ) -> None:
        self.services: Store[Service] = Store()
        self.slices: Store[BriefSlice] = Store({BY_SERVICE: by_service})
        self.here = here or here_of(settings, None, local)
        self.settings = settings
        self.table = self.new_table()
        self.services.add_handler(ServiceHandler(self.table))
        self.slices.add_handler(SliceHandler(self.table))

    def new_table(self) -> ServiceTable:
        """Return a table over the same stores that has seen nothing yet."""
        return ServiceTable(self.services, self.slices, self.settings, self.here)

    def put(self, *made: Service | BriefSlice) -> Delta:
        """Take objects and return what changes."""
        for each in made:
            if isinstance(each, Service):
                self.services.upsert(each)
            else:
                self.slices.upsert(each)
        return self.table.take()

    def drop(self, *made: Service | BriefSlice) -> Delta:
        """Let objects go and return what changes."""
        for each in made:
            store: Store[Any] = (
                self.services if isinstance(each, Service) else self.slices
            )
            store.delete(each.key)
        return self.table.take()

    def rebuilt(self) -> Table:
        """Return the table as one that begins now makes it."""
        table = self.new_table()
        table.set_blocks(())
        table.mark_all()
        table.take()
        return table.whole()

    def backends(self, pool: str) -> list[str]:
        """Return the addresses in a pool, e.g. of `ns1/svc1:p80/tcp/IPv4#cluster`."""
        found = self.table.whole().pools[pool].backends
        return [each.host for each in found]

    def flow(
        self, source: str, dest: str, number: int, protocol: Protocol = "tcp"
    ) -> tuple[str, bool]:
        """Return where a packet goes, and whether as one of this node's."""
        return trace(self.table.whole(), source, dest, number, protocol)


def keys(delta: Delta) -> dict[str, list[str]]:
    """Return the names of all that a delta has."""
    return {
        "+pools": [each.name for each in delta.pools],
        "-pools": [*delta.remove_pools],
        "+vips": [f"{each.host}:{each.port}" for each in delta.vips],
        "-vips": [f"{host}:{number}" for _, host, number in delta.remove_vips],
        "+fronts": [f"{each.host}:{each.port}" for each in delta.fronts],
        "-fronts": [f"{host}:{number}" for _, host, number in delta.remove_fronts],
        "+ips": [*delta.cluster_ips],
        "-ips": [*delta.remove_cluster_ips],
    }


def some(delta: Delta) -> dict[str, list[str]]:
    """Return what of it is there."""
    return {name: each for name, each in keys(delta).items() if each}


def trace(
    table: Table, source: str, dest: str, number: int, protocol: Protocol
) -> tuple[str, bool]:
    """Return endpoints, REJECT, DROP or "", and whether the source is rewritten."""
    front = table.fronts.get((protocol, dest, number))
    if front is None:
        if dest in table.cluster_ips:
            return "REJECT", False
        return ("DROP" if is_within(dest, table.blocks) else ""), False
    if front.sources is not None and not is_within(source, front.sources):
        return "DROP", False
    vip = table.vips.get(front.key)
    is_near = is_within(source, vip.near) if vip is not None else False
    access = front.near if is_near else front.far
    if access != "serve":
        return access.upper(), False
    assert vip is not None
    pool = vip.near_pool if is_near and vip.near_pool is not None else vip.pool
    found = table.pools[pool.name].backends
    assert found, "who is served has somewhere to go"
    where = sorted(f"{each.host}:{each.port}" for each in found)
    return ", ".join(where), not is_kept(vip, is_near)


def is_kept(vip: Vip, is_near: bool) -> bool:
    """Whether the endpoint sees the client's address."""
    return vip.keep_source == "all" or vip.keep_source == ("near" if is_near else "far")


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether one of the networks has the address."""
    parsed = ipaddress.ip_address(address)
    return any(parsed in ipaddress.ip_network(each) for each in networks)


# From, to, port, protocol; endpoints; whether as this node (None = never mind).
Flow: TypeAlias = tuple[str, str, int, Protocol, str, bool | None]


def check_flows(world: World, flows: dict[str, Flow]) -> None:
    """Check all at once, so that a failure shows the whole picture."""
    found = {name: world.flow(*flow[:4]) for name, flow in flows.items()}
    assert {name: where for name, (where, _) in found.items()} == {
        name: flow[4] for name, flow in flows.items()
    }
    said = {name: flow[5] for name, flow in flows.items() if flow[5] is not None}
    assert {name: found[name][1] for name in said} == said
