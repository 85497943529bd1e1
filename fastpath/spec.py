"""The words in which Python tells the core what to forward: Backend, Pool, Vip.

Frozen values, compared by content: the engine keeps what did not change between
two tables. Addresses are IP literals; names are resolved above the wall.
"""

from dataclasses import dataclass, field
from typing import Literal

from fastpath.errors import TableError

Balance = Literal["random", "two-choices", "least", "round-robin", "ring"]
RingKey = Literal["source", "5-tuple"]
OnAllDown = Literal["try", "refuse"]
Protocol = Literal["tcp"]

MAX_WEIGHT = 1000
MAX_TIER = 7
MAX_BACKENDS = 4096
MAX_TRIES = 4


def _check(fact: bool, complaint: str) -> None:
    if not fact:
        raise TableError(complaint)


@dataclass(frozen=True, slots=True)
class Backend:
    """One address that takes traffic."""

    host: str  # IPv4 or IPv6 literal
    port: int
    weight: int = 1  # share of new relays; 0 = none
    tier: int = 0  # the lowest tier with a usable backend takes all traffic

    def __post_init__(self) -> None:
        _check(0 < self.port < 65536, f"{self.host}: port {self.port} out of range")
        _check(0 <= self.weight <= MAX_WEIGHT, f"{self.host}: weight {self.weight}")
        _check(0 <= self.tier <= MAX_TIER, f"{self.host}: tier {self.tier}")

    @property
    def key(self) -> tuple[str, int]:
        """Identity across tables: health and counters belong to the address."""
        return (self.host, self.port)


@dataclass(frozen=True, slots=True)
class Pool:
    """Backends of a vip and how to choose among them. Durations in seconds."""

    backends: tuple[Backend, ...]
    balance: Balance = "two-choices"
    ring_key: RingKey = "source"
    on_all_down: OnAllDown = "try"  # "try": a wrong health opinion must not cut all
    connect_timeout_s: float = 5.0  # per backend tried, not per relay
    connect_tries: int = 3
    slow_start_s: float = 0.0  # ramp of the weight after recovery; not at start
    eject_after: int = 3  # connect failures in a row; 0 = never
    eject_s: float = 10.0  # doubled on each ejection in a row, at most 8 times this

    def __post_init__(self) -> None:
        object.__setattr__(self, "backends", tuple(self.backends))
        _check(len(self.backends) <= MAX_BACKENDS, "more than 4096 backends in a pool")
        keys = [b.key for b in self.backends]
        _check(len(set(keys)) == len(keys), "a backend stands twice in a pool")
        _check(self.balance in Balance.__args__, f"balance {self.balance!r}")
        _check(self.ring_key in RingKey.__args__, f"ring key {self.ring_key!r}")
        _check(1 <= self.connect_tries <= MAX_TRIES, "connect tries not in 1-4")
        _check(self.connect_timeout_s > 0, "connect timeout must be positive")


@dataclass(frozen=True, slots=True)
class Vip:
    """An address that clients dial, its pool and its limits. Durations in seconds."""

    host: str
    port: int  # 0 = any free one, see Engine.address
    protocol: Protocol
    pool: Pool = field(default_factory=lambda: Pool(()))
    idle_timeout_s: float = 3600.0  # no byte in either direction
    keepalive_s: float = 30.0  # first TCP keepalive probe; then every third of it
    user_timeout_s: float = 30.0  # sent data unacknowledged for this long: reset
    client_first: bool = False  # TLS, HTTP: accept with the first bytes, ACK later
    max_connections: int = 0  # live relays; 0 = no limit
    max_connections_per_source: int = 0
    max_new_per_s: int = 0
    max_new_per_s_per_source: int = 0
    backlog: int = 4096

    def __post_init__(self) -> None:
        _check(0 <= self.port < 65536, f"{self.host}: port {self.port} out of range")
        _check(self.protocol == "tcp", f"{self.host}: protocol {self.protocol!r}")
        _check(self.idle_timeout_s > 0, "idle timeout must be positive")

    @property
    def key(self) -> tuple[str, int]:
        """Identity across tables."""
        return (self.host, self.port)
