"""What this node is to Services: its addresses, zone and Pods, by family.

Source: kubernetes, pkg/proxy/util/nodeport_addresses.go and pkg/util/node (1.36).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyproxy.discovery.services.families import (
    FAMILIES,
    Family,
    Network,
    family_of,
    is_in,
    network_of,
    single,
)
from pyproxy.discovery.services.settings import Settings
from pyproxy.kube.machines import Node
from pyproxy.kube.spelling import canonical

ZONE = "topology.kubernetes.io/zone"
LEAVES = "ToBeDeletedByClusterAutoscaler"  # a taint
KEYWORDS = {"primary", "localhost", "all"}  # of node port addresses
LOOPBACK: dict[Family, str] = {"IPv4": "127.0.0.1", "IPv6": "::1"}
LOOPBACK_NETWORK: dict[Family, str] = {"IPv4": "127.0.0.0/8", "IPv6": "::1/128"}


@dataclass(frozen=True, slots=True)
class Side:
    """What this node is in one family."""

    node_ip: str = ""  # "" = it has none
    node_ports: tuple[str, ...] = ()  # addresses that offer them
    near: tuple[str, ...] = ()  # networks of Pods, and of this node itself
    knows_pods: bool = False  # False: nobody can tell a Pod from a stranger


@dataclass(frozen=True, slots=True)
class Here:
    """This node."""

    name: str
    zone: str = ""
    ipv4: Side = Side()
    ipv6: Side = Side()
    complaints: tuple[str, ...] = ()  # about settings and the Node

    def side(self, family: Family) -> Side:
        """Return what it is in a family."""
        return self.ipv6 if family == "IPv6" else self.ipv4


def is_eligible(node: Node) -> bool:
    """Whether load balancers may send clients to a Node: not while it leaves."""
    if node.metadata.deletion_timestamp is not None:
        return False
    return all(taint.key != LEAVES for taint in node.spec.taints)


def here_of(settings: Settings, node: Node | None, local: Iterable[str]) -> Here:
    """Work out what this node is.

    `local` are the addresses of its interfaces. Without a Node it is where they and
    the settings say.
    """
    complaints: list[str] = []
    own = [address for each in local if (address := canonical(each))]
    nets = _networks(settings.node_port_addresses, complaints)
    pods = _pod_networks(settings, node, complaints)
    sides: dict[Family, Side] = {}
    for family in FAMILIES:
        node_ip = _node_ip(settings, node, family)
        mine = [each for each in own if family_of(each) == family]
        near = [str(net) for net in pods if _family(net) == family]
        knows_pods = bool(near)
        near += [LOOPBACK_NETWORK[family]]
        near += [single(each) for each in sorted({*mine, node_ip} - {""})]
        offered = _node_ports(settings, family, node_ip, mine, nets)
        sides[family] = Side(node_ip, offered, tuple(near), knows_pods)
    if not any(side.node_ip for side in sides.values()):
        complaints.append("no address of this node is known; node ports are not served")
    zone = node.metadata.labels.get(ZONE, "") if node is not None else ""
    name = settings.node_name
    return Here(name, zone, sides["IPv4"], sides["IPv6"], tuple(complaints))


def _family(network: Network) -> Family:
    return "IPv6" if network.version == 6 else "IPv4"


def _networks(said: Sequence[str], complaints: list[str]) -> list[Network]:
    found: list[Network] = []
    for text in said:
        if text in KEYWORDS:
            continue
        network = network_of(text)
        if network is None:
            complaints.append(f"node port addresses: {text!r} is no network")
        else:
            found.append(network)
    return found


def _pod_networks(
    settings: Settings, node: Node | None, complaints: list[str]
) -> list[Network]:
    said: Sequence[str] = ()
    if settings.detect_local == "cluster-cidr":
        said = settings.cluster_cidrs
    elif settings.detect_local == "node-cidr" and node is not None:
        said = node.spec.pod_cidrs or tuple(filter(None, (node.spec.pod_cidr,)))
    found = [(text, network_of(text)) for text in said]
    complaints += [f"{text!r} is no network of Pods" for text, net in found if not net]
    return [net for _, net in found if net is not None]


def _node_ip(settings: Settings, node: Node | None, family: Family) -> str:
    """Return the settings' address, or the first internal, else external, one."""
    given = [canonical(each) for each in settings.node_ips]
    said = node.status.addresses if node is not None else ()
    for kind in ("InternalIP", "ExternalIP"):
        given += [canonical(each.address) for each in said if each.type == kind]
    return next((each for each in given if each and family_of(each) == family), "")


def _node_ports(
    settings: Settings,
    family: Family,
    node_ip: str,
    mine: Sequence[str],
    nets: Sequence[Network],
) -> tuple[str, ...]:
    words = KEYWORDS & {*settings.node_port_addresses}
    if not words and not nets:
        words = {"primary"}  # nothing was said, or nothing that makes sense
    networks = [net for net in nets if _family(net) == family]
    found: set[str] = set()
    if "primary" in words and node_ip:
        found.add(node_ip)
    if "localhost" in words:
        found.add(LOOPBACK[family])
    # Networks of the other family alone do not narrow this one down.
    everywhere = "all" in words or not (words or networks)
    for address in mine:
        if _is_link_local(address):
            continue  # of use with an interface only, which no client of a vip names
        if everywhere or is_in(address, networks):
            found.add(address)
    return tuple(sorted(found))


def _is_link_local(address: str) -> bool:
    return address[:4] in ("fe80", "fe90", "fea0", "feb0")
