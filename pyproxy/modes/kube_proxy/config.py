"""Settings of kube-proxy: names of KubeProxyConfiguration, and what we add."""

import ipaddress
import socket
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pyproxy.config import (
    Config,
    ModeConfig,
    Seconds,
    SecondsOrZero,
    Timeouts,
    parse_address,
    parse_network,
)
from pyproxy.kube.config import ClientFlags

MODE = "kube-proxy"
HEALTHZ_PORT, METRICS_PORT = 10256, 10249
OOM_SCORE_ADJ = -999  # the kernel ends almost anything else first; kube-proxy's
KEYWORDS = ("primary", "localhost", "all")  # of nodePortAddresses

Capture = Literal["auto", "tproxy", "bind"]
Path = Literal["relay", "direct"]
DetectLocalMode = Literal[
    "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"
]


class DetectLocal(Config, frozen=True, kw_only=True):
    """By which interface clients of this node are known, where that is the mode."""

    bridge_interface: str = ""  # name of the bridge that pods are on
    interface_name_prefix: str = ""  # what the names of pods' interfaces begin with


class NodeTimeouts(Timeouts, frozen=True, kw_only=True):
    """How long things may take."""

    # No byte either way; as conntrack on a node that kube-proxy has set up.
    tcp_idle: Seconds = Seconds(24 * 3600)


class KubeProxy(ModeConfig, frozen=True, kw_only=True):
    """Every Service of the cluster, on this node."""

    # HOST:PORT of health, metrics and the live page; "" = off. Needs a restart.
    admin_address: str = f"127.0.0.1:{METRICS_PORT}"
    # HOST:PORT where load balancers ask for /healthz and /livez; "" = off. Likewise.
    healthz_bind_address: str = f"0.0.0.0:{HEALTHZ_PORT}"
    # A port that is taken ends the program; otherwise it is tried again and again.
    bind_address_hard_fail: bool = False
    hostname_override: str = ""  # name of the own Node; empty = the host's name
    # The node's primary address; unspecified = the Node says. Nothing is bound to it.
    bind_address: str = "0.0.0.0"
    detect_local_mode: DetectLocalMode = "ClusterCIDR"  # how to know pods' connections
    detect_local: DetectLocal = DetectLocal()  # for two of the modes
    # Networks of pods, with a comma between the two families.
    cluster_cidr: str = msgspec.field(default="", name="clusterCIDR")
    # Where node ports are served: networks, primary, localhost and all, in any mix.
    node_port_addresses: tuple[str, ...] = ("primary",)
    # Serve externalIPs: whoever may write a Service may then take any address.
    external_ips: bool = msgspec.field(default=False, name="externalIPs")
    masquerade_all: bool = False  # endpoints see this node instead of the pod
    # A change that waits for twice as long makes /healthz red.
    sync_period: Seconds = Seconds(30)
    # How likely the kernel ends us when memory runs out; null = leave it.
    oom_score_adj: Annotated[int, Meta(ge=-1000, le=1000)] | None = OOM_SCORE_ADJ
    # How connections come to us; auto: tproxy where we may, else bind.
    capture: Capture = "auto"
    # How bytes go: through us, or, for plain Services, past us.
    path: Path = "relay"
    # Serve Services with this label service.kubernetes.io/service-proxy-name only;
    # empty = those without it.
    service_proxy_name: str = ""
    udp_timeout: Seconds = Seconds(30)  # of a UDP flow without an answer
    udp_stream_timeout: Seconds = Seconds(180)  # of one that was answered
    # How long to wait for the own Node and its addresses.
    node_timeout: SecondsOrZero = SecondsOrZero(300)
    timeouts: NodeTimeouts = NodeTimeouts()  # how long things may take
    client: ClientFlags = ClientFlags()  # which apiserver, and as whom

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.healthz_bind_address:
            _check("healthzBindAddress", self.healthz_bind_address)
        try:
            ipaddress.ip_address(self.bind_address)
        except ValueError:
            text = f"{self.bind_address!r} is no IP address"
            raise ValueError(f".bindAddress: {text}") from None
        self._check_cidrs()
        for index, text in enumerate(self.node_port_addresses):
            if text not in KEYWORDS:
                _check_network(f"nodePortAddresses[{index}]", text, "; or one of")
        self._check_detection()
        if self.hostname_override != self.hostname_override.strip():
            raise ValueError(".hostnameOverride: has blanks around it")

    def _check_cidrs(self) -> None:
        families = [_check_network("clusterCIDR", each) for each in self.cluster_cidrs]
        if len(set(families)) < len(families):
            raise ValueError(".clusterCIDR: two networks of one family")

    def _check_detection(self) -> None:
        for mode, field in (
            ("BridgeInterface", "bridge_interface"),
            ("InterfaceNamePrefix", "interface_name_prefix"),
        ):
            if self.detect_local_mode == mode and not getattr(self.detect_local, field):
                flag = f"--pod-{field.replace('_', '-')}"
                raise ValueError(f".detectLocalMode: {mode} needs {flag}")

    @property
    def cluster_cidrs(self) -> tuple[str, ...]:
        """The networks of `cluster_cidr`, each by itself."""
        return tuple(each.strip() for each in self.cluster_cidr.split(",") if each)

    @property
    def health_timeout_s(self) -> float:
        """How long a change may wait."""
        return 2 * float(self.sync_period)

    @property
    def node_name(self) -> str:
        """Name of the own Node. Source: k/k pkg/util/node, GetHostname."""
        return (self.hostname_override or socket.gethostname()).strip().lower()


def _check(field: str, address: str) -> None:
    try:
        parse_address(address, zero_port=True)
    except ValueError as error:
        raise ValueError(f".{field}: {error}") from None


def _check_network(field: str, text: str, also: str = "") -> int:
    """Return 4 or 6."""
    try:
        return parse_network(text).version
    except ValueError as error:
        more = f"{also} {', '.join(KEYWORDS)}" if also else ""
        raise ValueError(f".{field}: {error}{more}") from None


def warnings(config: KubeProxy) -> list[str]:
    """Return what is possible and yet usually a mistake."""
    found = []
    if config.detect_local_mode == "ClusterCIDR" and not config.cluster_cidr:
        found.append(
            "pods' connections are not told from others: name the networks of pods"
            " (--cluster-cidr), or another way (--detect-local-mode)"
        )
    if config.detect_local_mode != "ClusterCIDR" and config.cluster_cidr:
        found.append(f"--cluster-cidr is not used by {config.detect_local_mode}")
    return found
