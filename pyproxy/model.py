"""Neutral words for what is forwarded where: neither Kubernetes nor the core.

Discovery produces these, the dataplane compiles them into the core's table. Hosts are
IP literals here: names were resolved on the way in, and stay as `name` for people.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Key = tuple[str, int]  # host, port
VipKey = tuple[str, str, int]  # protocol, host, port
Protocol = Literal["tcp", "udp"]
Balance = Literal["random", "two-choices", "least", "round-robin", "ring"]
RingKey = Literal["source", "5-tuple"]
OnAllDown = Literal["try", "refuse"]
Health = Literal["ready", "draining", "dead"]
Access = Literal["serve", "reject", "drop"]
KeepSource = Literal["none", "near", "far", "all"]


class State(StrEnum):
    """What the probes know about a backend.

    ::

        UNCHECKED --first result--> UP, DRAINING or DOWN
        UP        --`fall` not ready--> DRAINING      --`fall` dead--> DOWN
        DRAINING  --`rise` ready--> UP                --`fall` dead--> DOWN
        DOWN      --`rise` ready--> UP                --`rise` alive--> DRAINING
    """

    UNCHECKED = "UNCHECKED"
    UP = "UP"  # takes new relays
    DRAINING = "DRAINING"  # alive but not ready: keeps its relays, takes no new ones
    DOWN = "DOWN"  # dead: its relays were reset


@dataclass(frozen=True, slots=True)
class Backend:
    """One (address, port, weight) that takes traffic."""

    host: str
    port: int
    name: str = ""  # as the user wrote it; several backends may share one
    weight: int = 1
    tier: int = 0

    @property
    def key(self) -> Key:
        """Identity: health and counters belong to the address."""
        return (self.host, self.port)


@dataclass(frozen=True, slots=True)
class Pool:
    """Backends of a vip and how to choose among them."""

    name: str
    backends: tuple[Backend, ...]
    balance: Balance = "least"
    ring_key: RingKey = "source"
    on_all_down: OnAllDown = "try"
    connect_timeout_s: float = 5.0
    slow_start_s: float = 30.0
    # A source keeps its backend for so long after its last connection; 0 = not at all.
    affinity_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one listener; 0 = no limit."""

    max_connections: int = 0
    max_connections_per_source: int = 0
    max_new_per_s: int = 0
    max_new_per_s_per_source: int = 0


@dataclass(frozen=True, slots=True)
class Vip:
    """An address that clients dial."""

    host: str
    port: int
    pool: Pool
    idle_timeout_s: float = 3600.0  # TCP
    udp_one_way_s: float = 30.0  # no datagram, of a flow that was not answered
    udp_two_way_s: float = 180.0  # likewise, of one that was
    limits: Limits = field(default_factory=Limits)
    keepalive_s: float = 30.0
    proxy_protocol_from: tuple[str, ...] = ()  # networks that send PROXY headers
    client_first: bool = False  # TLS, HTTP: the client speaks before the server does
    http: object = None  # dataplane.Http, which is not known down here; None = TCP
    tls: object = field(default=None, repr=False)  # dataplane.ServerTls, likewise
    protocol: Protocol = "tcp"
    bind: bool = True  # False: a transparent listener takes its clients
    near: tuple[str, ...] = ()  # networks of near clients: pods, and this node
    near_pool: Pool | None = None  # theirs; None = `pool` is
    keep_source: KeepSource = "none"  # towards backends; of which clients

    @property
    def key(self) -> VipKey:
        """Identity across tables."""
        return (self.protocol, self.host, self.port)


@dataclass(frozen=True, slots=True)
class Front:
    """What becomes of clients of an address of a Service, before a vip takes them.

    Near clients are the cluster's pods and this node itself, far ones all others.
    "reject" is a reset or an ICMP error at once, "drop" no answer at all.
    """

    protocol: Protocol
    host: str
    port: int
    near: Access
    far: Access
    # Networks that clients may come from, near ones as well; others are dropped.
    sources: tuple[str, ...] | None = None  # None = any

    @property
    def key(self) -> VipKey:
        """Identity: that of the vip."""
        return (self.protocol, self.host, self.port)


def format_address(host: str, port: int) -> str:
    """`HOST:PORT`, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
