"""What is chosen for a node's Service proxy, and what a watch has to select for it."""

from dataclasses import dataclass
from typing import Literal

from pyproxy.model import Balance

# Of Services and their slices: another proxy's, or nobody's. The endpoint controller
# copies both labels to slices, so that one selector serves both kinds.
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
HEADLESS = "service.kubernetes.io/headless"
SELECTOR = f"!{PROXY_NAME},!{HEADLESS}"

Detection = Literal["cluster-cidr", "node-cidr", "none"]

# As conntrack keeps what is idle on a node that kube-proxy has set up.
TCP_IDLE_S = 24 * 3600.0
UDP_ONE_WAY_S, UDP_TWO_WAY_S = 30.0, 180.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same for all Services. Durations in seconds."""

    node_name: str
    # Keywords "primary", "localhost" and "all", and networks, in any mix.
    node_port_addresses: tuple[str, ...] = ("primary",)
    node_ips: tuple[str, ...] = ()  # instead of those that the Node names
    detect_local: Detection = "cluster-cidr"  # how a Pod's address is known
    cluster_cidrs: tuple[str, ...] = ()  # for "cluster-cidr"; none = not known
    masquerade_all: bool = False
    external_ips: bool = False  # anybody who may write a Service could take any address
    service_proxy_name: str = ""  # "" = Services without that label
    bind: bool = False  # listen at the addresses themselves
    balance: Balance = "two-choices"
    connect_timeout_s: float = 5.0
    slow_start_s: float = 0.0
    tcp_idle_s: float = TCP_IDLE_S
    udp_one_way_s: float = UDP_ONE_WAY_S  # of flows without an answer
    udp_two_way_s: float = UDP_TWO_WAY_S

    @property
    def selector(self) -> str:
        """Of labels, for lists and watches of Services and slices."""
        if not self.service_proxy_name:
            return SELECTOR
        return f"{PROXY_NAME}={self.service_proxy_name},!{HEADLESS}"
