"""What the agent asks of the table of Services, as Protocols, and its parts as one.

The table (`discovery.services`) is pure: it is told which Services are marked, reads
the stores, and says what changes in vips, pools and fronts. Capture brings packets of
Services' addresses to the core. The agent owns the order in which they are asked.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from pyproxy.capture import Capture, Direct
from pyproxy.dataplane import Dataplane
from pyproxy.discovery.services import Options
from pyproxy.kube.machines import Node
from pyproxy.kube.objects import Service
from pyproxy.kube.resource import Resource
from pyproxy.kube.store import Handler, Index, Store
from pyproxy.model import Front, Pool, Vip, VipKey
from pyproxy.modes.kube_proxy.config import KubeProxy
from pyproxy.modes.kube_proxy.shortcuts import Hook


class Side(Protocol):
    """This node in one family."""

    @property
    def near(self) -> tuple[str, ...]:
        """Networks of Pods, and of this node itself."""

    @property
    def node_ip(self) -> str:
        """Its address; "" = it has none."""

    @property
    def node_ports(self) -> tuple[str, ...]:
        """Addresses of this machine that offer node ports."""


class Here(Protocol):
    """This node, as far as Services look different from it. Compares with ==."""

    @property
    def ipv4(self) -> Side:
        """Of one family."""

    @property
    def ipv6(self) -> Side:
        """Of the other."""

    @property
    def complaints(self) -> tuple[str, ...]:
        """About settings and the Node."""


class HealthPort(Protocol):
    """What is asked about one Service at a port of its own."""

    @property
    def port(self) -> int:
        """Where."""

    @property
    def endpoints(self) -> int:
        """Distinct ready endpoints of this node."""


class Delta(Protocol):
    """What appears, replaces what had its key, or goes.

    The name of a pool is the key of its Service, a colon, and more.
    """

    @property
    def vips(self) -> Sequence[Vip]:
        """Of addresses that serve clients."""

    @property
    def remove_vips(self) -> Sequence[VipKey]:
        """Those that go."""

    @property
    def pools(self) -> Sequence[Pool]:
        """All that vips name."""

    @property
    def remove_pools(self) -> Sequence[str]:
        """Those that go, by name."""

    @property
    def fronts(self) -> Sequence[Front]:
        """Of all addresses; those that reject or drop have no vip."""

    @property
    def remove_fronts(self) -> Sequence[VipKey]:
        """Those that go."""

    @property
    def cluster_ips(self) -> Sequence[str]:
        """Of these, ports without a front are refused."""

    @property
    def remove_cluster_ips(self) -> Sequence[str]:
        """Those that go."""

    @property
    def blocks(self) -> tuple[str, ...] | None:
        """Networks whose addresses without a Service are dropped; None = as before."""

    @property
    def health(self) -> Mapping[str, HealthPort | None]:
        """By Service; None = it has none any more."""

    @property
    def options(self) -> Mapping[str, Options]:
        """By Service, of those that want other than before."""

    @property
    def complaints(self) -> Mapping[str, tuple[str, ...]]:
        """By Service, all that there are; () = none any more."""

    @property
    def changed_at(self) -> Mapping[str, str]:
        """When endpoints of a Service changed, RFC 3339, as far as it is said."""


class Marks(Protocol):
    """Is told which Services are not what they were."""

    def mark(self, key: str, changed_at: str = "") -> None:
        """Note one; `changed_at` is when its endpoints changed, if that is said."""


class Table(Marks, Protocol):
    """Services and EndpointSlices as vips, pools and fronts."""

    @property
    def no_local_endpoints(self) -> Mapping[str, int]:
        """Services with a policy Local and no endpoint here: "internal", "external"."""

    def set_here(self, here: Any) -> None:
        """Be on this node from now on; what looks different is marked."""

    def set_blocks(self, cidrs: Iterable[Any]) -> None:
        """Learn of all ServiceCIDRs."""

    def mark_all(self) -> None:
        """Note that everything may be otherwise."""

    def take(self) -> Delta:
        """Return what differs from the last time."""

    def explain(self, key: str) -> Mapping[str, object] | None:
        """Say of a Service why it is as it is, as plain JSON; None = unknown."""


class CurrentMarks:
    """Marks in the table that is in use at the time."""

    def __init__(self, table: Callable[[], Table]) -> None:
        self._table = table

    def mark(self, key: str, changed_at: str = "") -> None:
        """Note that a Service is not what it was."""
        self._table().mark(key, changed_at)


class Parts(NamedTuple):
    """What the agent is put together from."""

    slices: Resource[Any]  # EndpointSlices, as the table reads them
    indexes: Mapping[str, Index[Any]]  # of their store
    selector: Callable[[KubeProxy], str]  # labels of Services and slices
    here: Callable[[KubeProxy, Node | None, Iterable[str]], Here]  # addresses: local
    # Also told whether vips listen at their own addresses.
    table: Callable[[KubeProxy, Here, Store[Service], Store[Any], bool], Table]
    # Handlers of both stores; they call `mark`, then what follows: is it a slice?
    handlers: Callable[
        [Marks, Callable[[bool], None], Callable[[], None]],
        tuple[Handler[Service], Handler[Any]],
    ]
    capture: Callable[[KubeProxy, Callable[[], Dataplane]], Capture]
    cleanup: Callable[[KubeProxy], Sequence[str]]  # returns what was removed
    hook: Callable[[], Hook]  # at connect(2), for what goes past us


def usual() -> Parts:
    """Return the real ones."""
    from pyproxy.modes.kube_proxy import wiring

    return Parts(
        slices=wiring.SLICES,
        indexes=wiring.INDEXES,
        selector=wiring.selector,
        here=wiring.here,
        table=wiring.table,
        handlers=wiring.handlers,
        capture=wiring.capture,
        cleanup=wiring.cleanup,
        hook=Direct,
    )
