"""The addresses that a Service claims, and what becomes of clients at each of them.

Source: kubernetes, pkg/proxy/nftables/proxier.go (1.36).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyproxy.discovery.services.endpoints import Usable
from pyproxy.discovery.services.here import Here
from pyproxy.discovery.services.ports import PROTOCOLS, Face, Kind, Wanted
from pyproxy.discovery.services.settings import Settings
from pyproxy.kube.objects import ServicePort
from pyproxy.model import Access, Front, KeepSource, Pool, Vip, VipKey


@dataclass(frozen=True, slots=True)
class Target:
    """A port of a Service in a family, and what it can use."""

    service: str  # its key
    port: ServicePort
    face: Face
    usable: Usable

    def pool(self, which: str) -> str:
        """Return the name of a pool of it: "cluster" or "local"."""
        port = self.port
        protocol = PROTOCOLS[port.protocol]
        return f"{self.service}:{port.name}/{protocol}/{self.face.family}#{which}"

    @property
    def is_external(self) -> bool:
        """Whether it has addresses besides its cluster IP."""
        face = self.face
        return bool(self.port.node_port or face.load_balancer or face.external)


@dataclass(frozen=True, slots=True)
class Claim:
    """An address; the vip is None where no client is served."""

    kind: Kind
    front: Front
    vip: Vip | None


@dataclass(frozen=True, slots=True)
class _Rules:
    """What holds of all external, or all internal, addresses of a target."""

    near: Access
    far: Access
    pool: str
    near_pool: str  # "" = that of all
    keep: KeepSource


def claims_of(
    targets: Sequence[Target],
    wanted: Wanted,
    here: Here,
    settings: Settings,
    before: Mapping[VipKey, Claim],
) -> dict[VipKey, Claim]:
    """Return what a Service claims. Claims that are as before are the same objects."""
    claims: dict[VipKey, Claim] = {}
    for target in targets:
        internal = _internal(target, wanted, here, settings)
        external = _external(target, wanted) if target.is_external else internal
        protocol = PROTOCOLS[target.port.protocol]
        stubs: dict[str, Pool] = {}
        for kind, host, port in _addresses(target, here):
            key: VipKey = (protocol, host, port)
            if key in claims:
                continue  # a load balancer's address that is an external IP as well
            rules = internal if kind == "cluster" else external
            sources = target.face.sources if kind == "load-balancer" else None
            front = Front(protocol, host, port, rules.near, rules.far, sources)
            vip = _vip(front, rules, target, here, settings, stubs)
            claim = Claim(kind, front, vip)
            known = before.get(key)
            claims[key] = known if known == claim and known is not None else claim
    return claims


def _addresses(target: Target, here: Here) -> Iterator[tuple[Kind, str, int]]:
    """Yield where clients find it, the strictest of two that are one first."""
    face, port = target.face, target.port
    yield "cluster", face.cluster_ip, port.port
    for host in face.load_balancer:
        yield "load-balancer", host, port.port
    for host in face.external:
        yield "external", host, port.port
    if port.node_port:
        for host in here.side(face.family).node_ports:
            yield "node-port", host, port.node_port


def _internal(target: Target, wanted: Wanted, here: Here, settings: Settings) -> _Rules:
    usable = target.usable
    is_local = wanted.internal_local
    access = _access(usable.local if is_local else usable.cluster, usable, is_local)
    knows_pods = here.side(target.face.family).knows_pods
    # Where nobody can tell a Pod from a stranger, all are taken for Pods.
    keep: KeepSource = "near" if knows_pods else "all"
    if settings.masquerade_all:
        keep = "none"
    pool = target.pool("local" if is_local else "cluster")
    return _Rules(access, access, pool, "", keep)


def _external(target: Target, wanted: Wanted) -> _Rules:
    usable = target.usable
    near = _access(usable.cluster, usable, False)
    cluster = target.pool("cluster")
    if not wanted.external_local:
        # An endpoint elsewhere would answer the client itself, past us.
        return _Rules(near, near, cluster, "", "none")
    # Near clients need not go out to a load balancer and come back: any endpoint does.
    far = _access(usable.local, usable, True)
    return _Rules(near, far, target.pool("local"), cluster, "all")


def _access(used: Sequence[object], usable: Usable, is_local: bool) -> Access:
    if used:
        return "serve"
    # Elsewhere there are some: whoever sent the client may try another node.
    return "drop" if is_local and usable.has_any else "reject"


def _vip(
    front: Front,
    rules: _Rules,
    target: Target,
    here: Here,
    settings: Settings,
    stubs: dict[str, Pool],
) -> Vip | None:
    if "serve" not in (front.near, front.far):
        return None
    side = here.side(target.face.family)
    near_pool = _stub(rules.near_pool, stubs) if rules.near_pool else None
    return Vip(
        front.host,
        front.port,
        _stub(rules.pool, stubs),
        idle_timeout_s=settings.tcp_idle_s,
        udp_one_way_s=settings.udp_one_way_s,
        udp_two_way_s=settings.udp_two_way_s,
        protocol=front.protocol,
        bind=settings.bind,
        near=side.near,
        near_pool=near_pool,
        keep_source=rules.keep,
    )


def _stub(name: str, stubs: dict[str, Pool]) -> Pool:
    """Return a pool that is only named: what is in it changes more often than vips."""
    return stubs.setdefault(name, Pool(name, ()))
